//! JSON records.

use records::{DecodeError, Decoder, DecoderConfig, EmbeddingUpdated, FixedSchemas, Format, Interaction, KeyRule};

#[test]
fn any_bytes_are_a_json_record_or_refused_with_a_bounded_message() {
    let config = DecoderConfig { format: Format::Json, key: KeyRule::Ignore, ..DecoderConfig::default() };
    crate::fuzz("json_records", |bytes: &[u8]| {
        let lookup = || Box::new(FixedSchemas::default());
        let mut interactions = Decoder::<Interaction<'static>>::new(config, lookup());
        let mut embeddings = Decoder::<EmbeddingUpdated<'static>>::new(config, lookup());
        let refusals = [
            interactions.decode(None, Some(bytes)).map(drop).err(),
            embeddings.decode(None, Some(bytes)).map(drop).err(),
        ];
        for refusal in refusals.into_iter().flatten() {
            let DecodeError::Rejected(rejection) = refusal else { panic!("{refusal}") };
            assert!(rejection.message.len() < 1000 + bytes.len(), "{rejection}");
        }
        if let Ok(record) = interactions.decode(None, Some(bytes)) {
            // what was read reads back
            let again = serde_json::to_vec(&record).unwrap();
            assert_eq!(interactions.decode(None, Some(&again)).map(drop), Ok(()), "{record:?}");
        }
    });
}
