use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::registry::variable_of;
use super::*;

fn errors(builder: ConfigurationBuilder) -> Vec<String> {
    builder
        .build()
        .unwrap_err()
        .errors()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn yaml_errors(text: &str) -> Vec<String> {
    errors(Configuration::builder().yaml("hurtig.yaml", text))
}

#[test]
fn every_default_is_accepted_by_its_own_option() {
    for option in all() {
        let text = option.default_text();
        assert_eq!(option.canonical(&text), Some(text), "{}", option.key());
    }
}

#[test]
fn keys_and_variables_are_unique() {
    let keys: HashSet<_> = all().map(|option| option.key()).collect();
    let variables: HashSet<_> = all().map(|option| variable_of(option.key())).collect();
    assert_eq!(keys.len(), all().count());
    assert_eq!(variables.len(), all().count());
    assert!(variables.contains("HURTIG_TASKMANAGER_NUMBEROFTASKSLOTS"));
}

#[test]
fn defaults() {
    let config = Configuration::default();
    assert_eq!(config.get(&options::PARALLELISM_DEFAULT), 1);
    assert_eq!(config.get(&options::MAX_PARALLELISM).resolve(100), 256);
    assert_eq!(
        config.get(&options::BUFFER_TIMEOUT),
        BufferTimeout::After(Duration::from_millis(10))
    );
    assert_eq!(config.get(&options::BATCH_BYTES).get(), 256 * 1024);
    assert_eq!(config.get(&options::EXPONENTIAL_ATTEMPTS), Limit::Infinite);
    assert_eq!(config.get(&options::PIPELINE_NAME), None);
    assert!(!config.is_set(&options::PIPELINE_NAME));
}

#[test]
fn nested_and_flat_yaml() {
    let text = "\
pipeline:
  name: 1.10
  operator-chaining.enabled: false
  jobvertex-parallelism-overrides: { a: 2, 'b:c': 3 }
restart-strategy:
  type: fixed-delay
  fixed-delay: {attempts: infinite, delay: 2 min}
execution.buffer-timeout.interval: -1
parallelism.default: 8
pipeline.max-parallelism: ~
";
    let config = Configuration::builder().yaml("a.yaml", text).build().unwrap();
    assert_eq!(config.get(&options::PIPELINE_NAME).as_deref(), Some("1.10"));
    assert!(!config.get(&options::OPERATOR_CHAINING));
    let overrides = BTreeMap::from([("a".to_owned(), 2), ("b:c".to_owned(), 3)]);
    assert_eq!(config.get(&options::PARALLELISM_OVERRIDES), overrides);
    assert_eq!(
        config.get(&options::RESTART_STRATEGY),
        Some(RestartStrategy::FixedDelay)
    );
    assert_eq!(config.get(&options::FIXED_DELAY_ATTEMPTS), Limit::Infinite);
    assert_eq!(config.get(&options::FIXED_DELAY), Duration::from_secs(120));
    assert_eq!(config.get(&options::BUFFER_TIMEOUT), BufferTimeout::OnlyWhenFull);
    assert_eq!(config.get(&options::PARALLELISM_DEFAULT), 8);
    assert!(!config.is_set(&options::MAX_PARALLELISM));
}

#[test]
fn empty_files_are_fine() {
    for text in ["", "# nothing\n", "---\n", "pipeline:\n", "null\n"] {
        assert_eq!(
            Configuration::builder().yaml("a.yaml", text).build(),
            Ok(Configuration::default())
        );
    }
}

#[test]
fn the_strongest_layer_wins_in_any_order() {
    let mut config = Configuration::builder()
        .definitions(["pipeline.batch-size=3", "pipeline.name = c"])
        .environment([
            ("HURTIG_PIPELINE_BATCH_SIZE".into(), "2".into()),
            ("HURTIG_PIPELINE_BATCH_BYTES".into(), "2 kb".into()),
            ("HURTIG_LOG".into(), "debug".into()),
            ("HURTIG_CLUSTER_DIR".into(), "/c".into()),
            ("HURTIG_TOKEN".into(), "t".into()),
            ("HURTIG_CA_FILE".into(), "/ca.pem".into()),
            ("PATH".into(), "/bin".into()),
        ])
        .yaml(
            "a.yaml",
            "pipeline: {batch-size: 1, batch-bytes: 1 kb}\nparallelism.default: 7",
        )
        .build()
        .unwrap();
    assert_eq!(config.get(&options::BATCH_SIZE), 3);
    assert_eq!(config.get(&options::BATCH_BYTES), ByteSize::kb(2));
    assert_eq!(config.get(&options::PARALLELISM_DEFAULT), 7);
    config.set(&options::BATCH_SIZE, 4).unwrap();
    assert_eq!(config.get(&options::BATCH_SIZE), 4);
    let entry = config
        .entries()
        .find(|entry| entry.option.key() == "parallelism.default")
        .unwrap();
    assert_eq!(entry.source.unwrap().to_string(), "a.yaml:2");
}

#[test]
fn overlay_keeps_the_stronger_setting() {
    let mut base = Configuration::builder()
        .definitions(["pipeline.batch-size=3"])
        .build()
        .unwrap();
    let mut program = Configuration::default();
    program.set(&options::PARALLELISM_DEFAULT, 5).unwrap();
    base.overlay(&program);
    let file = Configuration::builder()
        .yaml("a", "pipeline.batch-size: 9")
        .build()
        .unwrap();
    base.overlay(&file);
    assert_eq!(base.get(&options::PARALLELISM_DEFAULT), 5);
    assert_eq!(base.get(&options::BATCH_SIZE), 3);
}

#[test]
fn entries_of_a_map_add_up() {
    let text = "pipeline.jobvertex-parallelism-overrides.a: 2\npipeline.jobvertex-parallelism-overrides.b: 3";
    let config = Configuration::builder().yaml("a", text).build().unwrap();
    assert_eq!(config.get(&options::PARALLELISM_OVERRIDES).len(), 2);
}

#[test]
fn unknown_keys_name_the_place_and_the_nearest() {
    assert_eq!(
        yaml_errors("parallelism.default: 1\n\npipeline:\n  bach-size: 3"),
        ["hurtig.yaml:4: unknown option `pipeline.bach-size`; did you mean `pipeline.batch-size`?"]
    );
    assert_eq!(
        yaml_errors("batch-size: 3"),
        ["hurtig.yaml:1: unknown option `batch-size`; did you mean `pipeline.batch-size`?"]
    );
    assert_eq!(yaml_errors("zzz: 3"), ["hurtig.yaml:1: unknown option `zzz`"]);
    assert_eq!(
        errors(Configuration::builder().environment([("HURTIG_PARALELISM_DEFAULT".into(), "1".into())])),
        [
            "environment variable HURTIG_PARALELISM_DEFAULT: unknown option `HURTIG_PARALELISM_DEFAULT`; did \
             you mean `HURTIG_PARALLELISM_DEFAULT`?"
        ]
    );
    assert_eq!(
        errors(Configuration::builder().definitions(["paralelism.default=1"])),
        ["-D: unknown option `paralelism.default`; did you mean `parallelism.default`?"]
    );
}

#[test]
fn bad_values_name_the_place_and_what_was_expected() {
    assert_eq!(
        yaml_errors("worker.round: soon\ntask:\n  cancellation.timeout: [1 s]\npipeline.batch-size: 0"),
        [
            "hurtig.yaml:1: `worker.round` expects a duration of more than 0, found `soon`",
            "hurtig.yaml:3: `task.cancellation.timeout` expects a duration such as `10 s`, `500 ms` or \
             `2 min`, found a sequence",
            "hurtig.yaml:4: `pipeline.batch-size` expects an integer from 1 to 1048576, found `0`",
        ]
    );
    assert_eq!(
        errors(Configuration::builder().environment([("HURTIG_PARALLELISM_DEFAULT".into(), String::new())])),
        [
            "environment variable HURTIG_PARALLELISM_DEFAULT: `parallelism.default` expects an integer from 1 \
             to 32768, found nothing"
        ]
    );
    assert_eq!(
        errors(Configuration::builder().definitions(["restart-strategy.type=sometimes", "nonsense"])),
        [
            "-D: `restart-strategy.type` expects one of `none`, `fixed-delay`, `exponential-delay`, \
             `failure-rate`, found `sometimes`",
            "-D expects key=value, found `nonsense`",
        ]
    );
}

#[test]
fn what_yaml_configuration_does_without() {
    assert_eq!(
        yaml_errors("pipeline.name: a\npipeline:\n  name: b"),
        ["hurtig.yaml:3: `pipeline.name` is set again; line 1 sets it already"]
    );
    assert_eq!(
        yaml_errors("pipeline.name: &x a"),
        ["hurtig.yaml:1: anchors and aliases are not supported; write the value out"]
    );
    assert_eq!(
        yaml_errors("- a\n- b"),
        ["hurtig.yaml:1: expected options as `key: value`"]
    );
    assert_eq!(
        yaml_errors("pipeline.name: a\n---\nb: 1"),
        ["hurtig.yaml:2: a second document; a configuration is one"]
    );
    let broken = yaml_errors("pipeline.name: a\npipeline: [");
    assert!(broken[0].starts_with("hurtig.yaml:2: not YAML: "), "{broken:?}");
    let deep = format!("a: {}{}", "[".repeat(50), "]".repeat(50));
    assert_eq!(yaml_errors(&deep), ["hurtig.yaml:1: nested too deeply"]);
}

#[test]
fn programs_cannot_configure_the_cluster() {
    let mut config = Configuration::default();
    let error = config.set(&options::TASK_SLOTS, 4).unwrap_err();
    assert_eq!(
        error,
        ConfigError::ClusterOption {
            key: "taskmanager.numberOfTaskSlots".into()
        }
    );
    let error = config.set(&options::BATCH_SIZE, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "program code: `pipeline.batch-size` expects an integer from 1 to 1048576, found `0`"
    );
    config.set_text("pipeline.batch-size", "12").unwrap();
    assert_eq!(config.get(&options::BATCH_SIZE), 12);
    config.set(&options::PIPELINE_NAME, Some("n".into())).unwrap();
    assert_eq!(crate::Error::from(error).fault(), crate::Fault::User);
}

#[test]
fn a_configuration_travels_and_is_checked_on_arrival() {
    let mut config = Configuration::builder()
        .yaml("a.yaml", "pipeline.batch-bytes: 1 mb")
        .build()
        .unwrap();
    config.set(&options::PARALLELISM_DEFAULT, 3).unwrap();
    let bytes = rmp_serde::to_vec_named(&config).unwrap();
    assert_eq!(rmp_serde::from_slice::<Configuration>(&bytes).unwrap(), config);
    let foreign = r#"{"pipeline.batch-size":{"value":"none","source":"command-line"}}"#;
    let error = serde_json::from_str::<Configuration>(foreign)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`pipeline.batch-size` expects"), "{error}");
}

#[test]
fn lists_read_yaml_sequences_and_text() {
    assert_eq!(Vec::<u32>::parse("1; 2;3"), Some(vec![1, 2, 3]));
    assert_eq!(Vec::<u32>::parse("1;x"), None);
    assert_eq!(vec!["a;b".to_owned(), "c".to_owned()].text(), "'a;b';c");
    assert_eq!(Vec::<String>::type_name(), "list of string");
    assert_eq!(BTreeMap::<String, u32>::parse("a:1,a:2"), None, "a key twice");
}

#[test]
fn secrets_are_read_and_not_shown() {
    let text = "s3.secret-key: hunter2\ns3.access-key: me\n";
    let config = Configuration::builder().yaml("c.yaml", text).build().unwrap();
    assert_eq!(config.get(&options::S3_SECRET_KEY).as_deref(), Some("hunter2"));
    let shown: Vec<String> = config.entries().map(|entry| entry.value).collect();
    let debug = format!("{config:?} {shown:?}");
    assert!(!debug.contains("hunter2") && debug.contains("******"), "{debug}");
    assert!(debug.contains("me"), "{debug}");
    // Whoever is sent the configuration has it too.
    let sent = serde_json::to_string(&config).unwrap();
    let got: Configuration = serde_json::from_str(&sent).unwrap();
    assert_eq!(got.get(&options::S3_SECRET_KEY).as_deref(), Some("hunter2"));
}

#[test]
fn jobs_begin_with_what_the_cluster_says_of_them() {
    let text = "parallelism.default: 2\npipeline.batch-size: 512\nexecution.state-recovery.path: /one\n\
                s3.secret-key: hunter2\nrest.bind-address: 127.0.0.1\nhigh-availability.type: file\n";
    let cluster = Configuration::builder().yaml("c.yaml", text).build().unwrap();
    let JobDefaults {
        mut settings,
        secrets,
    } = cluster.job_defaults();
    let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["parallelism.default", "pipeline.batch-size"],
        "of jobs, and of every job"
    );
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["s3.secret-key"]);
    assert!(!format!("{:?}", cluster.job_defaults()).contains("hunter2"));

    // A newer cluster has options that a program does not know yet.
    settings.insert("pipeline.of-a-later-version".to_owned(), "1".to_owned());
    let mut job = Configuration::builder()
        .definitions(["pipeline.batch-size=7"])
        .cluster(&settings)
        .build()
        .unwrap();
    assert_eq!(
        job.get(&options::BATCH_SIZE),
        7,
        "whoever submits a job knows it better"
    );
    assert_eq!(job.get(&options::PARALLELISM_DEFAULT), 2);
    job.set(&options::PARALLELISM_DEFAULT, 3).unwrap();
    assert_eq!(job.get(&options::PARALLELISM_DEFAULT), 3, "and the program best");

    settings.insert("pipeline.batch-size".to_owned(), "none".to_owned());
    let wrong = Configuration::builder()
        .cluster(&settings)
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("the cluster's configuration: `pipeline.batch-size` expects"),
        "{wrong}"
    );
}
