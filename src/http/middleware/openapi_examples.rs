//! Examples of the OpenAPI document: what the server answers, by schema, by status, and by operation.
//!
//! Guarantees: every answer with a body has an example, and so has each parameter in a path. `tests/api/document.rs` compares them with
//! what is answered. Examples of request bodies are beside their types.

use serde_json::{Map, Value, json};

/// The answers that [`Examples`] is made of.
const ANSWERS: &str = include_str!("openapi_examples.json");

/// Examples of answers.
pub struct Examples(Value);

impl Examples {
    /// Reads the examples.
    pub fn read() -> Self {
        Self(serde_json::from_str(ANSWERS).expect("BUG: our own examples are JSON"))
    }

    /// Adds the examples of all schemas of answers.
    pub fn add_to_schemas(&self, schemas: &mut Map<String, Value>) {
        for (name, example) in self.0["schemas"].as_object().into_iter().flatten() {
            schemas[name]["example"] = example.clone();
        }
    }

    /// Adds the examples of an operation: those of its parameters, and of each response with a body.
    pub fn add_to_operation(&self, operation: &mut Map<String, Value>) {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default();
            if let Some(example) = self.0["parameters"].get(name) {
                parameter["example"] = example.clone();
            }
        }
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
            if let Some(body) = response.get_mut("content").and_then(|content| content.get_mut("application/json")) {
                let schema = body["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
                body["example"] = self.answer(&id, status, schema.unwrap_or_default());
            }
        }
    }

    fn answer(&self, operation: &str, status: &str, schema: &str) -> Value {
        let mut answer = match self.0["failures"].get(status) {
            Some(message) => json!({ "status": "fail", "message": message }),
            None if status >= "400" => json!({ "status": "fail" }),
            None => self.0["schemas"][schema].clone(),
        };
        for (name, value) in self.0["operations"][operation][status].as_object().into_iter().flatten() {
            answer[name] = value.clone();
        }
        answer
    }
}
