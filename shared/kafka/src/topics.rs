//! What the brokers say of topics.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

/// Settings of these topics by topic and name, of those that this user may see.
///
/// # Errors
/// Where no broker answers.
pub async fn topic_settings(
    admin: &AdminClient<DefaultClientContext>,
    topics: impl IntoIterator<Item = &str>,
    options: &AdminOptions,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, KafkaError> {
    let resources: Vec<_> = topics.into_iter().map(ResourceSpecifier::Topic).collect();
    let mut found = BTreeMap::new();
    for resource in admin.describe_configs(&resources, options).await?.into_iter().flatten() {
        if let OwnedResourceSpecifier::Topic(name) = resource.specifier {
            let values = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            found.insert(name, values.collect());
        }
    }
    Ok(found)
}
