//! Loading a configuration as a worker has it: precedence, everything wrong at once, nothing secret shown.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Deserialize;
use service::{
    Http, HumanDuration, Kafka, Loaded, Log, Origin, Problems, Registry, Size, Sources, Validate, load, sections,
};

const OWN: &str = r#"
window = "5m"
slide = "10s"
min_events = 2
share = 0.5
strict = true
limit = "1MiB"
dimensions = ["domain", "user_segment"]
normalise = "all"
bins = { kind = "log2", unit = "1s", count = 10 }

[shapes.usual]
kind = "linear"
min = "0s"
max = "10s"
count = 5
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    window: HumanDuration,
    slide: HumanDuration,
    min_events: u32,
    share: f64,
    strict: bool,
    limit: Size,
    dimensions: Vec<Dimension>,
    normalise: Normalise,
    bins: Bins,
    shapes: BTreeMap<String, Bins>,
    kafka: Kafka,
    registry: Registry,
    http: Http,
    log: Log,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Dimension {
    Domain,
    UserSegment,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Normalise {
    All,
    Occupied,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Bins {
    Log2 { unit: HumanDuration, count: u32 },
    Linear { min: HumanDuration, max: HumanDuration, count: u32 },
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        if self.slide.as_millis() == 0 || self.window.as_millis() % self.slide.as_millis() != 0 {
            problems.add("window", self.window, format!("a multiple of slide ({})", self.slide));
        }
        if self.min_events == 0 {
            problems.add("min_events", self.min_events, "1 or more");
        }
        problems.within("kafka", &self.kafka);
        problems.within("registry", &self.registry);
        problems.within("http", &self.http);
        problems.within("log", &self.log);
    }
}

/// The sources of a test, owned.
#[derive(Default)]
struct Given {
    file: Option<tempfile::NamedTempFile>,
    environment: Vec<(String, String)>,
    sets: Vec<String>,
}

impl Given {
    fn nothing() -> Self {
        Self::default()
    }

    fn file(mut self, text: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self.file = Some(file);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, set: &str) -> Self {
        self.sets.push(set.to_owned());
        self
    }

    fn load(&self) -> Result<Loaded<Configuration>, Problems> {
        let parts = [OWN, sections::KAFKA, sections::REGISTRY, sections::HTTP, sections::LOG];
        let defaults = service::defaults(&parts);
        load(Sources {
            defaults: &defaults,
            file: self.file.as_ref().map(|file| file.path()),
            environment: self.environment.clone(),
            sets: &self.sets,
        })
    }

    fn settings(&self) -> Configuration {
        self.load().unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    fn problems(&self) -> Vec<String> {
        self.load().expect_err("the configuration is wrong").iter().map(ToString::to_string).collect()
    }
}

fn text(value: HumanDuration) -> String {
    value.to_string()
}

#[test]
fn the_defaults_of_all_sections_are_a_good_configuration() {
    let loaded = Given::nothing().load().unwrap();
    assert_eq!(text(loaded.settings.window), "5m");
    assert_eq!(loaded.settings.bins, Bins::Log2 { unit: "1s".parse().unwrap(), count: 10 });
    assert_eq!(loaded.settings.limit.as_bytes(), 1 << 20);
    assert_eq!(loaded.settings.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(loaded.settings.registry.url.to_string(), "http://127.0.0.1:8081");
    assert!(loaded.settings.strict && loaded.settings.share == 0.5);
    assert_eq!(loaded.changes, Vec::new());
    assert_eq!(loaded.describe_changes(), "nothing");
}

#[test]
fn every_key_of_the_shared_sections_is_explained_by_a_comment_above_it() {
    for section in [sections::KAFKA, sections::REGISTRY, sections::HTTP, sections::LOG] {
        let mut above = "";
        for line in section.lines() {
            let is_key = line.contains(" = ") && !line.starts_with('#');
            // A password may stand right below its user: one comment explains both, as for certificate, key and its password.
            let explained = above.starts_with('#') || above.contains(" = \"\"");
            assert!(!is_key || explained, "{line}");
            above = line;
        }
    }
}

#[test]
fn sets_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = "window = \"20m\"\nslide = \"20s\"\nmin_events = 3\n[kafka]\nbrokers = \"file:1\"\n";
    let given = Given::nothing()
        .file(file)
        .variable("RECWATCH_SLIDE", "30s")
        .variable("RECWATCH_MIN_EVENTS", "4")
        .variable("RECWATCH_KAFKA__BROKERS", "environment:1")
        .variable("UNRELATED", "x")
        .set("min_events=5")
        .set("window=30m")
        .set("window=1h");
    let loaded = given.load().unwrap();
    assert_eq!(text(loaded.settings.window), "1h", "the last --set wins");
    assert_eq!(text(loaded.settings.slide), "30s");
    assert_eq!(loaded.settings.min_events, 5);
    assert_eq!(loaded.settings.kafka.brokers, "environment:1");
    assert_eq!(
        loaded.changes,
        [
            ("kafka.brokers".to_owned(), Origin::Environment("RECWATCH_KAFKA__BROKERS".to_owned())),
            ("min_events".to_owned(), Origin::Set("min_events".to_owned())),
            ("slide".to_owned(), Origin::Environment("RECWATCH_SLIDE".to_owned())),
            ("window".to_owned(), Origin::Set("window".to_owned())),
        ]
    );
}

#[test]
fn a_set_value_is_toml_or_else_text() {
    let given = Given::nothing()
        .set("dimensions=[\"domain\"]")
        .set("normalise=occupied")
        .set("window=\"20m\"")
        .set("strict=false")
        .set("share=1")
        .set("registry.url=http://registry:8081/apis/ccompat/v7/");
    let settings = given.settings();
    assert_eq!(settings.dimensions, [Dimension::Domain]);
    assert_eq!(settings.normalise, Normalise::Occupied);
    assert_eq!(text(settings.window), "20m");
    assert!(!settings.strict);
    assert_eq!(settings.share, 1.0);
    assert_eq!(settings.registry.url.to_string(), "http://registry:8081/apis/ccompat/v7");
}

#[test]
fn a_choice_given_with_its_kind_replaces_the_default_whole_from_every_source() {
    let linear = r#"{ kind = "linear", min = "0s", max = "600s", count = 10 }"#;
    let expected = Bins::Linear { min: "0s".parse().unwrap(), max: "10m".parse().unwrap(), count: 10 };
    let in_file = Given::nothing().file("[bins]\nkind = \"linear\"\nmin = \"0s\"\nmax = \"600s\"\ncount = 10\n");
    for given in [
        Given::nothing().set(&format!("bins={linear}")),
        Given::nothing().variable("RECWATCH_BINS", linear),
        Given::nothing().file(&format!("bins = {linear}")),
        in_file,
    ] {
        assert_eq!(given.settings().bins, expected);
    }
}

#[test]
fn single_keys_of_a_choice_change_those_alone() {
    let settings = Given::nothing().set("bins.count=20").settings();
    assert_eq!(settings.bins, Bins::Log2 { unit: "1s".parse().unwrap(), count: 20 });
    let given = Given::nothing()
        .file("bins = { kind = \"linear\", min = \"0s\", max = \"600s\", count = 10 }")
        .variable("RECWATCH_BINS__MAX", "900s");
    let expected = Bins::Linear { min: "0s".parse().unwrap(), max: "15m".parse().unwrap(), count: 10 };
    assert_eq!(given.settings().bins, expected);
}

#[test]
fn a_choice_given_whole_by_set_does_not_keep_keys_of_weaker_sources() {
    let problems = Given::nothing().set("bins={ kind = \"log2\", count = 12 }").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0], "bins = { count = 12, kind = \"log2\" } (--set bins): the key unit is missing");
}

#[test]
fn all_problems_of_all_sources_are_told_at_once_each_with_key_value_allowed_and_origin() {
    let given = Given::nothing()
        .file(
            "slide = \"7s\"\nmin_events = 0\nshare = \"half\"\nwindw = 1\n[kafka]\nbroker = \"x\"\n[registy]\nurl = \"x\"\n[log]\nlevel = \"loud\"\n",
        )
        .variable("RECWATCH_LIMIT", "1048576")
        .variable("RECWATCH_STRICT", "yes")
        .set("normalise=some")
        .set("bins={ kind = \"log3\" }")
        .set("dimensions=[\"domain\", \"colour\"]")
        .set("nonsense");
    let file = given.file.as_ref().unwrap().path().display().to_string();
    let mut problems = given.problems();
    problems.sort();
    let mut expected = vec![
        "(--set ***): must be KEY=VALUE with a dotted key, as in window=10m or kafka.brokers=host:9092".to_owned(),
        "bins.kind = \"log3\" (--set bins): must be one of \"log2\", \"linear\"".to_owned(),
        "dimensions = [\"domain\", \"colour\"] (--set dimensions): must be one of \"domain\", \"user_segment\"".to_owned(),
        format!("kafka.broker (file {file}): unknown key, did you mean kafka.brokers?"),
        "limit = \"1048576\" (environment variable RECWATCH_LIMIT): \"1048576\" is not a size: expected a whole number with a unit out of B, kB, KiB, MB, MiB, GB, GiB, such as \"1MiB\"".to_owned(),
        format!("log.level = \"loud\" (file {file}): must be off, error, warn, info, debug or trace, if need be followed by levels of parts, such as \"info,rdkafka=debug\""),
        format!("min_events = 0 (file {file}): must be 1 or more"),
        "normalise = \"some\" (--set normalise): must be one of \"all\", \"occupied\"".to_owned(),
        format!("registy (file {file}): unknown key, did you mean registry?"),
        format!("share = \"half\" (file {file}): must be a number, such as 0.5, not text in quotes"),
        "strict = \"yes\" (environment variable RECWATCH_STRICT): must be true or false, such as true, not text in quotes".to_owned(),
        "window = 5m (default): must be a multiple of slide (7s)".to_owned(),
        format!("windw (file {file}): unknown key, did you mean window?"),
    ];
    expected.sort();
    assert_eq!(problems, expected);
}

#[test]
fn a_bare_number_for_a_duration_is_refused_with_a_hint() {
    let from_file = Given::nothing().file("window = 300").problems();
    assert!(from_file[0].contains("window = 300") && from_file[0].contains("such as \"5m\""), "{from_file:?}");
    let from_set = Given::nothing().set("window=300").problems();
    assert!(from_set[0].contains("window = \"300\" (--set window)") && from_set[0].contains("\"10s\""), "{from_set:?}");
}

#[test]
fn a_problem_that_only_follows_from_another_one_is_not_told() {
    let problems = Given::nothing().set("slide=7s").set("window=soon").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("window = \"soon\" (--set window): \"soon\" is not a duration"), "{problems:?}");
}

#[test]
fn unknown_keys_far_from_any_known_one_list_those_known() {
    let problems = Given::nothing().set("http.colour=red").problems();
    assert_eq!(
        problems,
        ["http.colour (--set http.colour): unknown key, known in [http]: listen, max_silence, max_wait"]
    );
}

#[test]
fn unknown_keys_of_a_choice_are_told_and_the_rest_is_still_checked() {
    let mut problems = Given::nothing()
        .set("bins={ kind = \"log2\", unit = \"1s\", count = 9, size = 2 }")
        .set("min_events=0")
        .problems();
    problems.sort();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[0], "bins.size (--set bins): unknown key, known here: unit, count");
    assert!(problems[1].starts_with("min_events = 0"), "{problems:?}");
}

#[test]
fn wrong_shapes_are_refused_whatever_takes_whose_place() {
    for (set, start) in [
        (
            "window.minutes=5",
            "window = { minutes = 5 } (--set window.minutes): must be text in quotes, such as \"5m\", not a table",
        ),
        ("kafka=localhost", "kafka = \"localhost\" (--set kafka): must be a table, not text in quotes"),
        (
            "bins=log2",
            "bins = \"log2\" (--set bins): must be a table, such as { count = 10, kind = \"log2\", unit = \"1s\" }",
        ),
        ("min_events=-1", "min_events = -1 (--set min_events): must be u32"),
        ("min_events=1.5", "min_events = 1.5 (--set min_events): must be a whole number, such as 2, not a number"),
        (
            "dimensions=domain",
            "dimensions = \"domain\" (--set dimensions): must be a list, such as [\"domain\", \"user_segment\"]",
        ),
        ("http.listen=9464", "http.listen = \"9464\" (--set http.listen): "),
    ] {
        let problems = Given::nothing().set(set).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(start), "{} instead of {start}", problems[0]);
    }
    // Out of a file, a number could pass for the number of an enum's variant.
    let problems = Given::nothing().file("normalise = 1").problems();
    assert!(problems[0].contains("must be text in quotes, such as \"all\""), "{problems:?}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_told_by_name_and_line_without_its_text() {
    let broken =
        Given::nothing().file("window = \"5m\"\n[kafka]\nsasl_password = \"hunter2\nbrokers = \"b:1\"\n").problems();
    assert!(broken[0].contains("line 3: ") && !broken[0].contains("hunter2"), "{broken:?}");
    let sources = Sources { file: Some("/does/not/exist.toml".as_ref()), ..Sources::of_defaults(OWN) };
    let missing = load::<Configuration>(sources).unwrap_err().to_string();
    assert!(missing.contains("file /does/not/exist.toml") && missing.contains("No such file"), "{missing}");
}

#[test]
fn secrets_are_shown_neither_by_debug_nor_by_problems_nor_by_the_list_of_changes() {
    let sasl = Given::nothing()
        .set("kafka.security_protocol=sasl_ssl")
        .set("kafka.sasl_user=me")
        .variable("RECWATCH_KAFKA__SASL_PASSWORD", "271828")
        .variable("RECWATCH_REGISTRY__USER", "me")
        .variable("RECWATCH_REGISTRY__PASSWORD", "true")
        .set("kafka.properties={ \"sasl.kerberos.principal\" = \"hunter2\" }");
    let loaded = sasl.load().unwrap();
    assert_eq!(loaded.settings.kafka.sasl_password.expose(), "271828", "text, although it looks like a number");
    assert_eq!(loaded.settings.registry.password.expose(), "true");
    let shown = format!("{:#?} {} {:?}", loaded.settings, loaded.describe_changes(), loaded.changes);
    assert!(!shown.contains("271828") && !shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("sasl_password: ***"), "{shown}");

    let wrong = Given::nothing()
        .file("[kafka]\nsasl_pasword = \"hunter2\"\nssl_key_password = 271828\n[registry]\nurl = \"http://me:hunter2@host\"\npassword = [\"hunter2\"]\n")
        .set("kafka.sasl_password=hunter2")
        .set("kafka.properties.sasl.password=hunter2")
        .set("kafka.properties.sasl.oauthbearer.client.secret=hunter2")
        .set("kafka.properties.ssl.keystore.password.file=hunter2")
        .set("hunter2");
    let shown: Vec<String> = wrong.problems();
    assert!(shown.len() >= 7, "{shown:#?}");
    assert!(!shown.iter().any(|problem| problem.contains("hunter2") || problem.contains("271828")), "{shown:#?}");
}

#[test]
fn kafka_properties_may_be_dotted_or_quoted_and_are_checked_by_librdkafka_itself() {
    let given = Given::nothing()
        .file("[kafka.properties]\nsocket.timeout.ms = 5000\n\"fetch.queue.backoff.ms\" = \"5\"\n")
        .set("kafka.properties.socket.keepalive.enable=true")
        .variable("RECWATCH_KAFKA__PROPERTIES__CLIENT__RACK", "0123");
    let config = given.settings().kafka.client_config();
    assert_eq!(config.get("socket.timeout.ms"), Some("5000"));
    assert_eq!(config.get("fetch.queue.backoff.ms"), Some("5"));
    assert_eq!(config.get("socket.keepalive.enable"), Some("true"));
    assert_eq!(config.get("client.rack"), Some("0123"));

    let mut problems = Given::nothing()
        .set("kafka.properties.socket.timeout.ms=never")
        .set("kafka.properties.socket.timout.ms=5")
        .set("kafka.properties.enable.auto.commit=true")
        .set("kafka.properties.enable.ssl.certificate.verification=false")
        .set("kafka.properties.ssl.endpoint.identification.algorithm=none")
        .problems();
    problems.sort();
    let starts = [
        "kafka.properties.enable.auto.commit = *** (--set kafka.properties.enable.auto.commit): must be left out: exactly-once",
        "kafka.properties.enable.ssl.certificate.verification = *** (--set kafka.properties.enable.ssl.certificate.verification): must be left out: certificates",
        "kafka.properties.socket.timeout.ms = \"never\" (--set kafka.properties.socket.timeout.ms): must be as librdkafka wants it (Invalid value for configuration property",
        "kafka.properties.socket.timout.ms = *** (--set kafka.properties.socket.timout.ms): must be a setting that librdkafka knows",
        "kafka.properties.ssl.endpoint.identification.algorithm = *** (--set kafka.properties.ssl.endpoint.identification.algorithm): must be left out: host names",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} instead of {start}");
    }
}

#[test]
fn kafka_security_settings_must_fit_together() {
    let mut problems = Given::nothing()
        .set("kafka.security_protocol=sasl_ssl")
        .set("kafka.ssl_certificate_location=/does/not/exist.pem")
        .set("kafka.brokers=broker-1:9092,broker-2")
        .problems();
    problems.sort();
    let starts = [
        "kafka.brokers = \"broker-1:9092,broker-2\" (--set kafka.brokers): must be host:port",
        "kafka.sasl_password = \"\" (default): must be set, because security_protocol is \"sasl_ssl\"",
        "kafka.sasl_user = \"\" (default): must be set, because security_protocol is \"sasl_ssl\"",
        "kafka.ssl_certificate_location = \"/does/not/exist.pem\" (--set kafka.ssl_certificate_location): must be a file that can be read",
        "kafka.ssl_key_location = \"\" (default): must be set, because ssl_certificate_location is",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} instead of {start}");
    }
    let useless = Given::nothing().set("kafka.sasl_user=me").problems();
    assert!(useless[0].contains("security_protocol is \"plaintext\""), "{useless:?}");
}

#[test]
fn with_tls_and_sasl_the_client_verifies_certificates_and_host_names() {
    let given = Given::nothing()
        .set("kafka.security_protocol=sasl_ssl")
        .set("kafka.sasl_mechanism=SCRAM-SHA-256")
        .set("kafka.sasl_user=me")
        .set("kafka.sasl_password=hunter2");
    let config = given.settings().kafka.client_config();
    assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
    assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-256"));
    assert_eq!(config.get("sasl.password"), Some("hunter2"));
    assert_eq!(config.get("enable.ssl.certificate.verification"), Some("true"));
    assert_eq!(config.get("ssl.endpoint.identification.algorithm"), Some("https"));
    // What librdkafka itself makes of it, TLS and SCRAM being built in.
    config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
}

#[test]
fn variables_of_kubernetes_and_of_the_projects_tools_are_nobodys_keys_and_slips_are_refused() {
    let quiet = Given::nothing()
        .variable("RECWATCH_CACHE", "/tmp/x")
        .variable("RECWATCH_SERVICE_HOST", "10.0.0.1")
        .variable("RECWATCH_SESSION_ENTROPY_SERVICE_PORT", "80")
        .variable("RECWATCH_SESSION_ENTROPY_SERVICE_PORT_HTTP", "80")
        .variable("RECWATCH_SESSION_ENTROPY_PORT_9464_TCP_ADDR", "10.0.0.1")
        .variable("RECWATCH_SESSION_ENTROPY_PORT", "tcp://10.0.0.1:80");
    assert_eq!(quiet.load().unwrap().changes, Vec::new());
    let problems =
        Given::nothing().variable("RECWATCH_WINDWO", "5m").variable("RECWATCH_KAFKA_BROKERS", "b:1").problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| {
        problem.starts_with("windwo (environment variable RECWATCH_WINDWO): unknown key, did you mean window?")
    }));
}

#[test]
fn a_named_table_takes_more_choices_and_keeps_those_it_has() {
    let given = Given::nothing()
        .file("[shapes.usual]\ncount = 7\n[shapes.own]\nkind = \"log2\"\nunit = \"2s\"\ncount = 3")
        .set("shapes.third={ kind = \"log2\", unit = \"1s\", count = 1 }");
    let settings = given.settings();
    let second = |text: &str| text.parse::<HumanDuration>().unwrap();
    assert_eq!(settings.shapes["usual"], Bins::Linear { min: second("0s"), max: second("10s"), count: 7 });
    assert_eq!(settings.shapes["own"], Bins::Log2 { unit: second("2s"), count: 3 });
    assert_eq!(settings.shapes.len(), 3);
}

#[test]
fn what_is_wrong_with_an_added_choice_is_told_beside_everything_else() {
    let given = Given::nothing()
        .file("[shapes.own]\nunit = \"2s\"\ncount = 3\n[shapes.other]\nkind = \"log2\"\nunit = \"2s\"\ncount = -1")
        .set("shapes.text=no")
        .set("min_events=0");
    let problems = given.problems();
    for start in ["shapes.own", "shapes.other", "shapes.text", "min_events = 0"] {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} is not in {problems:#?}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

/// Everything that a worker prints of a configuration: its problems, or what it shows of a good one.
fn printed(given: &Given) -> String {
    match given.load() {
        Ok(loaded) => format!("{:#?} {:?} {}", loaded.settings, loaded, loaded.describe_changes()),
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

#[test]
fn no_source_shows_a_secret_whole_tables_and_broken_ones_included() {
    // Each is good, of the wrong kind, misspelt, or cannot be read; "hunter2" is the secret in each.
    let tables = [
        ("kafka.properties", r#"{ "sasl.oauthbearer.client.secret" = "hunter2" }"#),
        ("kafka.properties", r#"{ "sasl.oauthbearer.assertion.private.key.passphrase" = "hunter2" }"#),
        ("kafka.properties", r#"{ "client.rack" = ["hunter2"] }"#),
        ("kafka.properties", r#"{ "ssl.key.pem" = "hunter2", "socket.timeout.ms" = "never" }"#),
        ("kafka.properties", r#"{ "sasl.pasword" = "hunter2" }"#),
        ("kafka.properties", r#"{ "ssl.key.password" = "hunter2""#),
        ("kafka.properties", "hunter2 hunter2"),
        ("kafka", r#"{ sasl_password = "hunter2", sasl_user = 5 }"#),
        ("kafka", r#"{ sasl_pasword = "hunter2" }"#),
        ("kafka", r#"{ sasl_password = "hunter2""#),
        ("kafka", r#"{"sasl_password": "hunter2"}"#),
        ("kafka", r#"{ brokers = "me:hunter2@broker:9092" , security_protocol = "hunter" }"#),
        ("kafka.brokers", r#""SASL_SSL://me:hunter2@broker""#),
        ("kafka.brokers", r#"["me:hunter2@broker:9092"]"#),
        ("registry", r#"{ url = "http://me:hunter2@host", user = "me" }"#),
        ("registry", r#"{ url = "http://host?token=hunter2" }"#),
        ("registry", r#"{ url = "http://a,http://me:hunter2@b" }"#),
        ("registry", r#"{ password = ["hunter2"] }"#),
        ("registry", r#"{ password = { value = "hunter2" } }"#),
        ("registry", r#"{ pasword = "hunter2", timeout = "hunter2x" , user = "me", password = "hunter2x" }"#),
        ("registry.url", r#""http://me:hunter2@host:8081/path""#),
        ("shapes.own", r#"{ kind = "log2", secret = "hunter2", unit = "1s", count = 1 }"#),
        ("shapes.own", r#"{ kind = "log2", secert = "hunter2", unit = "1s", count = 1 }"#),
        ("bins", r#"{ kind = "linear", token = "hunter2" }"#),
    ];
    for (key, table) in tables {
        let variable = format!("RECWATCH_{}", key.to_uppercase().replace('.', "__"));
        for given in [
            Given::nothing().file(&format!("{key} = {table}\n")),
            Given::nothing().variable(&variable, table),
            Given::nothing().set(&format!("{key}={table}")),
        ] {
            let printed = printed(&given);
            assert!(!printed.contains("hunter2"), "{key} = {table}:\n{printed}");
        }
    }
}

#[test]
fn a_set_that_is_none_shows_no_more_than_its_key() {
    for (set, shown) in [
        ("kafka.sasl_password hunter2", "--set kafka.sasl_password)"),
        ("kafka.sasl_password:hunter2=", "--set kafka.sasl_password)"),
        ("hunter2", "--set ***)"),
    ] {
        let problems = Given::nothing().set(set).problems();
        assert!(problems[0].contains(shown) && !problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn variables_of_other_workers_have_no_effect_and_slips_are_still_refused() {
    let others = [
        "RECWATCH_CLICKHOUSE__URL",
        "RECWATCH_CLICKHOUSE__WHAT_IT_DOES_NOT_HAVE",
        "RECWATCH_BATCH__MAX_ROWS",
        "RECWATCH_ROUTE__GROUP_WAIT",
        "RECWATCH_RECEIVERS__PAGER__SECRET",
        "RECWATCH_ITEMS__TOPIC",
        "RECWATCH_TOPICS__DOMAIN_DRIFT",
        "RECWATCH_RUNTIME__COMMIT_INTERVAL",
        "RECWATCH_SINKHORN",
        "RECWATCH_LAMBDA_BY_DOMAIN__BOOKS",
    ];
    let given = others.iter().fold(Given::nothing(), |given, name| given.variable(name, "x"));
    let loaded = given.load().unwrap_or_else(|problems| panic!("{problems}"));
    let mut ignored: Vec<&str> = others.to_vec();
    ignored.sort_unstable();
    assert_eq!(loaded.ignored_variables, ignored);
    assert_eq!(loaded.changes, Vec::new());

    for (name, key) in [
        ("RECWATCH_KAFKA__BROKER", "kafka.broker"),
        ("RECWATCH_CLICKHUOSE__URL", "clickhuose"),
        ("RECWATCH_HTTP__URL", "http.url"),
        ("RECWATCH_SINKHORNS", "sinkhorns"),
    ] {
        let problems = given_of(name).problems();
        assert!(problems.len() == 1 && problems[0].starts_with(key), "{problems:?}");
    }
    // What is not in the environment is meant for this worker.
    for given in [Given::nothing().set("clickhouse.url=x"), Given::nothing().file("[clickhouse]\nurl = \"x\"\n")] {
        assert!(given.problems()[0].starts_with("clickhouse"), "{:?}", given.problems());
    }
}

fn given_of(variable: &str) -> Given {
    Given::nothing().variable(variable, "x")
}
