//! Completes the OpenAPI document: poem-openapi derives it from the handlers, and this adds the failures that follow from rules.
//!
//! Guarantees: a status that every operation of a kind can answer is written once, here, and the document has it for each of them.
//! Schemas have the form that generators of clients read. `tests/api/document.rs` verifies both, and that the document and the served
//! operations are the same.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{openapi_examples::Examples, service_guard};
use crate::auth::passwords::policy::PasswordPolicy;

/// The operations with a limit on guessing: those that verify a password, and registration. Those of services have one too.
const THROTTLED: [&str; 4] = ["register", "log_in", "change_password", "delete_account"];

const GET: &str = "GET, HEAD";

/// The schemas of request bodies.
const REQUESTS: [&str; 9] = [
    "Registration",
    "Credentials",
    "PasswordChange",
    "Confirmation",
    "NewUser",
    "Change",
    "Rotation",
    "NewWidget",
    "WidgetChange",
];
/// Field name to JSON schema format, in any of [`REQUESTS`].
const FORMATS: [(&str, &str); 5] = [
    ("email", "email"),
    ("password", "password"),
    ("current_password", "password"),
    ("new_password", "password"),
    ("info_url", "uri"),
];
/// The accepted date formats as a pattern. A pattern cannot express which dates exist and are not in the past.
const DEADLINE: &str = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?|[0-9]{1,2}/[0-9]{1,2}/([0-9]{2}|[0-9]{4})( [0-9:]+ [AP]M UTC)?|[A-Za-z]+ [0-9]{1,2},? [0-9]{4}|[0-9]{1,2} [A-Za-z]+ [0-9]{4})$";
/// Schema and field of new passwords, whose length is a setting.
const NEW_PASSWORDS: [(&str, &str); 4] =
    [("Registration", "password"), ("NewUser", "password"), ("Change", "password"), ("PasswordChange", "new_password")];
/// Schema and field where JSON `null` means absent. A form has no `null`.
const NULLABLE: [(&str, &str); 9] = [
    ("NewUser", "admin"),
    ("Change", "admin"),
    ("Change", "disabled"),
    ("Change", "password"),
    ("Rotation", "algorithm"),
    ("Rotation", "now"),
    ("ServiceChange", "disabled"),
    ("SecretRotation", "keep_old"),
    ("GivenToken", "token_type_hint"),
];

/// The document as JSON and as YAML.
pub struct Document {
    /// As JSON.
    pub json: String,
    /// As YAML.
    pub yaml: String,
    /// The path templates of its operations.
    pub templates: PathTemplates,
}

/// The templates of all served paths, such as `/api/v1/widgets/{name}`, with the methods of each as the value of `Allow`.
#[derive(Default)]
pub struct PathTemplates {
    /// Templates without a parameter, found by a hash lookup.
    fixed: HashMap<String, String>,
    with_parameters: Vec<(String, String)>,
}

impl PathTemplates {
    fn insert(&mut self, template: String, methods: String) {
        if template.contains('{') {
            self.with_parameters.push((template, methods));
        } else {
            self.fixed.insert(template, methods);
        }
    }

    /// Adds paths that only have `GET` and are not in the document.
    pub fn add(&mut self, pages: impl IntoIterator<Item = String>) {
        for path in pages {
            self.insert(path, GET.to_owned());
        }
    }

    /// Returns the template that `path` matches, or `None` if nothing is served there.
    pub fn of(&self, path: &str) -> Option<&str> {
        self.find(path).map(|(template, _)| template.as_str())
    }

    /// Returns the allowed methods of `path`, as the value of an `Allow` header (RFC 9110 §10.2.1).
    pub fn allow(&self, path: &str) -> String {
        self.find(path).map_or(GET, |(_, methods)| methods).to_owned()
    }

    fn find(&self, path: &str) -> Option<(&String, &String)> {
        let fits = |template: &str| {
            let fits = |our: &str, their: &str| our == their || our.starts_with('{') && !their.is_empty();
            template.split('/').count() == path.split('/').count()
                && template.split('/').zip(path.split('/')).all(|(our, their)| fits(our, their))
        };
        self.fixed.get_key_value(path).or_else(|| {
            let found = self.with_parameters.iter().find(|(template, _)| fits(template));
            found.map(|(template, methods)| (template, methods))
        })
    }
}

/// Completes the document that poem-openapi derived, whose paths are served below `base`.
pub fn complete(derived: &str, base: &str, signup: bool, policy: &PasswordPolicy) -> Document {
    let mut document: Value = serde_json::from_str(derived).expect("BUG: poem-openapi writes JSON");
    let mut templates = PathTemplates::default();
    let mut schemas = object(&mut document["components"], "schemas").clone();
    mend_schemas(&mut schemas, policy);
    let examples = Examples::read();
    examples.add_to_schemas(&mut schemas);
    for (path, operations) in object(&mut document, "paths") {
        let operations = operations.as_object_mut().expect("BUG: a path is an object");
        templates.insert(format!("{base}{path}"), allow(operations));
        for operation in operations.values_mut() {
            let operation = operation.as_object_mut().expect("BUG: an operation is an object");
            if let Some(body) = operation.get_mut("requestBody") {
                mend_body(body, &mut schemas);
            }
            add_failures(operation, !signup && path == "/auth/register");
            examples.add_to_operation(operation);
        }
    }
    for (schema, property) in NULLABLE {
        schemas[schema]["properties"][property]["nullable"] = json!(true);
    }
    schemas.sort_keys();
    document["components"]["schemas"] = Value::Object(schemas);
    // Two schemes would ask for the same token twice in Swagger UI's dialog; the 403 tells administrators' operations apart.
    if let Some(schemes) = document["components"]["securitySchemes"].as_object_mut() {
        schemes.shift_remove("AdminAuth");
    }
    mend_integers(&mut document);
    Document {
        json: document.to_string(),
        yaml: serde_yaml::to_string(&document).expect("BUG: JSON is YAML"),
        templates,
    }
}

/// Adds properties of schemas that the types of poem-openapi cannot express.
fn mend_schemas(schemas: &mut Map<String, Value>, policy: &PasswordPolicy) {
    for schema in REQUESTS {
        for (property, format) in FORMATS {
            if let Some(property) = schemas[schema]["properties"].get_mut(property) {
                property["format"] = json!(format);
            }
        }
        if let Some(deadline) = schemas[schema]["properties"].get_mut("deadline") {
            deadline["pattern"] = json!(DEADLINE);
        }
    }
    for (schema, property) in NEW_PASSWORDS {
        let password = &mut schemas[schema]["properties"][property];
        password["minLength"] = json!(policy.chars_min);
        password["maxLength"] = json!(policy.chars_max);
    }
    // The owner of a widget may be removed. OpenAPI 3.0 has no `nullable` beside a reference, and generators of clients do not read the
    // `allOf` of a reference and a description that poem-openapi writes, so that the schema is written where it is used.
    let mut owner = schemas.remove("Owner").expect("BUG: a widget has an owner");
    let widget = &mut schemas["Widget"];
    owner["nullable"] = json!(true);
    owner["description"] = widget["properties"]["owner"]["description"].take();
    widget["properties"]["owner"] = owner;
    // It is always present, but poem-openapi takes each `Option` as one that may be absent.
    if let Some(required) = widget["required"].as_array_mut() {
        required.push(json!("owner"));
    }
}

/// Writes integers as the specification knows them: `uint64` as an `int64` from 0, and the bound `1.0`, which poem-openapi keeps as a
/// float, as `1`.
fn mend_integers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            // `Display` writes a float without a fraction as an integer.
            let text = number.as_f64().map(|number| number.to_string()).unwrap_or_default();
            if let Ok(whole) = text.parse::<i64>() {
                *value = json!(whole);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mend_integers),
        Value::Object(members) => {
            members.values_mut().for_each(mend_integers);
            if members.get("format").is_some_and(|format| format == "uint32" || format == "uint64") {
                members["format"] = json!("int64");
                members.insert("minimum".to_owned(), json!(0));
            }
        }
        _ => {}
    }
}

/// Marks a body without a required field as optional, and gives its form a schema with a name of its own.
///
/// Generators of clients make a type from each schema, and choose the content type of a request by the type of its body. A form has no
/// `null` ([`NULLABLE`]).
fn mend_body(body: &mut Value, schemas: &mut Map<String, Value>) {
    let reference = body["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or_default();
    let name = reference.rsplit('/').next().unwrap_or_default().to_owned();
    let mut form = schemas[&name].clone();
    if form.get("required").is_none() {
        body["required"] = json!(false);
    }
    let form_name = format!("{name}Form");
    body["content"]["application/x-www-form-urlencoded"]["schema"] =
        json!({ "$ref": format!("#/components/schemas/{form_name}") });
    form["title"] = json!(form_name);
    schemas.insert(form_name, form);
}

fn allow(operations: &Map<String, Value>) -> String {
    let mut methods: Vec<String> = operations.keys().map(|method| method.to_uppercase()).collect();
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    methods.sort();
    methods.join(", ")
}

fn add_failures(operation: &mut Map<String, Value>, closed: bool) {
    let secured = operation.get("security").map(Value::to_string).unwrap_or_default();
    let for_admins = secured.contains("AdminAuth");
    let for_services = secured.contains(service_guard::SCHEME);
    let throttled = for_services || operation["operationId"].as_str().is_some_and(|id| THROTTLED.contains(&id));
    let has_body = operation.contains_key("requestBody");
    let has_parameters = operation.contains_key("parameters");
    let rules = [
        (has_body || has_parameters || !secured.is_empty(), "400"),
        (!secured.is_empty(), "401"),
        (for_admins || closed, "403"),
        (has_body, "413"),
        (true, "414"),
        (has_body, "415"),
        (throttled, "429"),
        (true, "431"),
        (true, "500"),
        (true, "503"),
    ];
    let lock = match (secured.is_empty(), for_services) {
        (true, _) => json!([]),
        (false, true) => json!([{ (service_guard::SCHEME): [] }]),
        (false, false) => json!([{ "BearerAuth": [] }]),
    };
    operation.insert("security".to_owned(), lock);
    let responses = operation["responses"].as_object_mut().expect("BUG: responses are an object");
    for (applies, status) in rules {
        if applies {
            responses.entry(status).or_insert(Value::Null);
        }
    }
    responses.sort_keys();
    for (status, response) in responses {
        if status.as_str() >= "400" {
            *response = failure(status);
        } else {
            mend_success(response);
        }
    }
}

/// Writes header names in their usual letter case; poem-openapi writes them in capitals.
fn mend_success(response: &mut Value) {
    if let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut) {
        *headers = std::mem::take(headers).into_iter().map(|(name, value)| (title_case(&name), value)).collect();
    }
}

fn title_case(name: &str) -> String {
    let capital = |word: &str| format!("{}{}", word[..1].to_uppercase(), word[1..].to_lowercase());
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

fn failure(status: &str) -> Value {
    let description = match status {
        "400" => "Fields failed, each named in `errors`; or the request cannot be read.",
        "401" => "Who is asking is not known; `WWW-Authenticate` says why.",
        "403" => "The user is not an administrator; at `register`, registration is closed.",
        "404" => "There is nothing of this name.",
        "409" => {
            "The email or the name is taken, or it is about the last administrator or the key that signs; `message` says which."
        }
        "410" => "The cursor is from before a restore. Start again without it.",
        "413" => "The body is too large.",
        "414" => "The URL is too long.",
        "415" => "The body is neither a form nor JSON.",
        "429" => "Too many tries; `Retry-After` says when to try again.",
        "431" => "The header fields are too large.",
        "500" => "The server has a defect; its log says more.",
        _ => "The server is busy or cannot reach its data; `Retry-After` says when to try again.",
    };
    let header = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let mut failure = json!({
        "description": description,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
    });
    match status {
        "401" | "403" => {
            let challenge = header("A challenge of RFC 6750 §3, or for a service of RFC 7617 §2.");
            failure["headers"] = json!({ "WWW-Authenticate": challenge });
        }
        "429" | "503" => failure["headers"] = json!({ "Retry-After": header("Seconds to wait.") }),
        _ => {}
    }
    failure
}

fn object<'a>(document: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    document[name].as_object_mut().expect("BUG: poem-openapi writes this as an object")
}
