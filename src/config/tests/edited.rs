//! Orders of operators as edits of a configuration.

use toml::{Table, Value};

use super::super::{Alteration, Config, Difference, Edit, ObjectKind, Report, diff, load_edited};
use super::{backend, parse};

const SERVERS: &str = "server = [{ address = \"10.0.0.1:1\" }, { name = \"a/b\", address = \
                       \"10.0.0.2:1\", weight = 5 }]";

fn edited(edits: &[Edit]) -> Result<Config, Report> {
    load_edited(&parse(&backend(SERVERS)).unwrap().sources, edits)
}

fn differences(edits: &[Edit]) -> Vec<Difference> {
    let before = parse(&backend(SERVERS)).unwrap();
    let after = edited(edits).unwrap_or_else(|report| panic!("{report}"));
    diff(&before.objects, &after.objects)
}

fn set(kind: ObjectKind, name: &str, key: &str, value: impl Into<Value>) -> Edit {
    Edit::Set { kind, name: name.to_owned(), key: key.to_owned(), value: Some(value.into()) }
}

#[test]
fn an_edit_is_one_difference() {
    for (edit, object, key) in [
        (set(ObjectKind::Global, "", "max_connections", 5), "", "max_connections"),
        (set(ObjectKind::Frontend, "a", "timeout.client", "5s"), "a", "timeout.client"),
        (set(ObjectKind::Backend, "pg", "on_drain", "fence"), "pg", "on_drain"),
        (set(ObjectKind::Server, "pg/a/b", "weight", 7), "pg/a/b", "weight"),
        (set(ObjectKind::Server, "pg/10.0.0.1:1", "state", "maint"), "pg/10.0.0.1:1", "state"),
    ] {
        let found = differences(std::slice::from_ref(&edit));
        assert_eq!(found.len(), 1, "{edit:?}: {found:?}");
        assert_eq!(found[0].name, object);
        let Alteration::Changed { key: changed, .. } = &found[0].change else {
            panic!("{found:?}")
        };
        assert_eq!(changed, key);
    }
    let removed = Edit::Set {
        kind: ObjectKind::Server,
        name: "pg/a/b".to_owned(),
        key: "weight".to_owned(),
        value: None,
    };
    assert_eq!(edited(&[removed]).unwrap().snapshot.servers[1].weight, 1);
}

#[test]
fn servers_come_and_go() {
    let server: Table = "name = \"new\"\naddress = \"10.0.0.3:1\"".parse().unwrap();
    let add = Edit::AddServer { backend: "pg".to_owned(), server };
    let remove = Edit::RemoveServer { name: "pg/10.0.0.1:1".to_owned() };
    let config = edited(&[add, remove]).unwrap();
    let names: Vec<&str> = config.snapshot.servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a/b", "new"]);
    assert_eq!(config.objects.names(ObjectKind::Server), ["pg/a/b", "pg/new"]);
}

#[test]
fn an_edit_is_checked_like_a_line_of_the_file() {
    for (edit, error) in [
        (set(ObjectKind::Server, "pg/a/b", "weight", 5000), "must be from 0 to 1000"),
        (set(ObjectKind::Server, "pg/a/b", "wight", 5), "did you mean \"weight\"?"),
        (set(ObjectKind::Frontend, "a", "timeout", 5), "must be a table"),
        (set(ObjectKind::Server, "pg/gone", "weight", 5), "the configuration lacks it"),
        (set(ObjectKind::Frontend, "gone", "rate", 5), "frontend \"gone\" was changed"),
        (Edit::RemoveServer { name: "gone/x".to_owned() }, "server \"gone/x\" was changed"),
        (
            Edit::AddServer { backend: "pg".to_owned(), server: Table::new() },
            "address is required here",
        ),
        (set(ObjectKind::Frontend, "a", "bind", "${PATH}"), "not a valid address"),
    ] {
        let report = edited(std::slice::from_ref(&edit)).unwrap_err().to_string();
        assert!(report.contains(error), "{edit:?}: {report}");
    }
}
