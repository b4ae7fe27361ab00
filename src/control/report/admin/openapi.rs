//! openapi.json: the routes and the shapes of their bodies, for programs that are made from it.
//!
//! Made of [`ROUTES`] and of the types that pages and orders are read from and written to. Not
//! here: the routes (`routes`). Invariant: `docs/openapi.json` is this document (a test compares;
//! `UPDATE=1 cargo test -p ringlane --lib openapi` rewrites it).

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{AnswerKind, Needs, ROUTES, Reach, Route};
use crate::cli::VERSION;

/// The document.
pub(super) fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_lowercase()] = operation(route, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringlane admin API",
            "version": VERSION,
            "description": "Served on the unix socket [global] admin.socket, and on the TCP \
                            address [global] admin.http to clients with a token.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = names.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.query.iter().map(|(name, about)| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "query", "description": about, "schema": schema })
    });
    let content = match route.answer {
        AnswerKind::Text(kind) => json!({ kind: { "schema": { "type": "string" } } }),
        AnswerKind::Json(shape) => json!({ "application/json": { "schema": shape(schemas) } }),
        AnswerKind::Stream(shape) => json!({
            "text/event-stream": { "schema": { "type": "string" } },
            "application/json": { "schema": shape(schemas) },
        }),
    };
    let mut responses = json!({ "200": { "description": "OK", "content": content } });
    let error = |about: &str| {
        let properties = json!({ "error": { "type": "string" } });
        let schema = json!({ "type": "object", "properties": properties, "required": ["error"] });
        json!({ "description": about, "content": { "application/json": { "schema": schema } } })
    };
    if route.needs != Needs::Nothing {
        responses["401"] = error("On TCP: no token, or a wrong one");
        responses["403"] = error("Not permitted: the role of the token, the Host, or not on TCP");
    }
    if route.path.contains('{') {
        responses["404"] = error("There is no such object");
    }
    if route.body.is_some() || !route.query.is_empty() {
        responses["400"] = error("The query or the body cannot be used");
    }
    if matches!(route.answer, AnswerKind::Stream(_)) {
        responses["503"] = error("Too many streams");
    }
    if route.path == "/healthz" {
        responses["503"] = json!({ "description": "Not serving", "content": content });
    }
    let mut operation = json!({
        "summary": route.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses,
        "security": if route.needs == Needs::Nothing { json!([]) } else { json!([{ "token": [] }]) },
    });
    if let Some(shape) = route.body {
        let content = json!({ "application/json": { "schema": shape(schemas) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    if route.place == Reach::Unix {
        operation["description"] = json!("On the unix socket only.");
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

    #[test]
    fn the_document_is_the_one_in_docs() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::write(FILE, &text).unwrap();
        }
        let kept = fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            kept == text,
            "docs/openapi.json differs: run with UPDATE=1 and read the difference"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1);
        let mut count = 0;
        for reference in references.filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
            count += 1;
        }
        assert!(count > 10, "{count} references");
    }
}
