//! Pages in headless Chromium: they work, and no page violates its own Content-Security-Policy or sends a request to another host.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::harness::{PASSWORD, TestServer};

/// The driver on a free port, and a browser with its own profile.
struct Browser {
    driver: Child,
    url: String,
    client: Client,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver is installed (tests/run installs it)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("started successfully on port")).unwrap().unwrap();
        let port = line.trim_end_matches('.').rsplit(' ').next().unwrap().to_owned();
        let url = format!("http://127.0.0.1:{port}");
        let profile = TempDir::new().unwrap();
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1200,1000",
            // No other host can be resolved, so that a page that needs one does not work.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({ "goog:chromeOptions": { "args": args }, "goog:loggingPrefs": { "browser": "ALL" } });
        let capabilities = capabilities.as_object().unwrap().clone();
        let mut client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = client.capabilities(capabilities).connect(&url).await.unwrap();
        Self { driver, url, client, _profile: profile }
    }

    async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(Duration::from_secs(30));
        wait.for_element(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Replaces the text of a field by typing, so that React notices the change.
    async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Returns the messages in the log of the browser.
    async fn complaints(&self) -> Vec<String> {
        let session = self.client.session_id().await.unwrap().unwrap();
        let url = format!("{}/session/{session}/se/log", self.url);
        let log = reqwest::Client::new().post(url).json(&json!({ "type": "browser" })).send().await.unwrap();
        let log: Value = serde_json::from_str(&log.text().await.unwrap()).unwrap();
        log["value"].as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Returns every URL from which the page loaded a resource.
    async fn requested(&self) -> Vec<String> {
        let script = "return performance.getEntriesByType('resource').map(entry => entry.name)";
        serde_json::from_value(self.client.execute(script, Vec::new()).await.unwrap()).unwrap()
    }

    async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The whole process group is killed, because a driver that is killed alone leaves its browser running.
        let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", self.driver.id())]).status();
        let _ = self.driver.wait();
    }
}

/// Runs an operation of Swagger UI and returns the status and the text that it shows.
async fn execute(browser: &Browser, operation: &str, body: Option<&Value>) -> (String, String) {
    let block = format!("#operations-{operation}");
    browser.click(&format!("{block} .opblock-summary-control")).await;
    browser.click(&format!("{block} .try-out__btn")).await;
    if let Some(body) = body {
        browser.fill(&format!("{block} textarea.body-param__text"), &body.to_string()).await;
    }
    browser.click(&format!("{block} .execute")).await;
    let status = browser
        .find(&format!("{block} .live-responses-table tr.response .response-col_status"))
        .await
        .text()
        .await
        .unwrap();
    let shown = browser.find(&format!("{block} .live-responses-table .highlight-code")).await.text().await.unwrap();
    (status.trim().to_owned(), shown)
}

#[tokio::test]
async fn in_swagger_ui_one_logs_in_authorizes_and_sees_who_one_is() {
    let server = TestServer::start();
    server.user("jo@example.com").await;
    let browser = Browser::start().await;
    browser.client.goto(&format!("{}/api/v1/ui", server.base)).await.unwrap();

    let body = json!({ "email": "jo@example.com", "password": PASSWORD });
    let (status, shown) = execute(&browser, "Auth-log_in", Some(&body)).await;
    assert_eq!(status, "200", "{shown}");
    let (_, after) = shown.split_once("\"access_token\": \"").unwrap();
    let token = after.split('"').next().unwrap();

    browser.click(".auth-wrapper .authorize").await;
    browser.fill(".dialog-ux .auth-container input", token).await;
    browser.click(".dialog-ux .auth-btn-wrapper .authorize").await;
    browser.click(".dialog-ux .btn-done").await;
    let (status, shown) = execute(&browser, "Auth-get_user", None).await;
    assert_eq!(status, "200", "{shown}");
    assert!(shown.contains("\"email\": \"jo@example.com\""), "{shown}");

    assert_eq!(browser.complaints().await, Vec::<String>::new());
    for url in browser.requested().await {
        assert!(url.starts_with(&server.base) || url.starts_with("data:"), "{url}");
    }
    browser.close().await;
}

#[tokio::test]
async fn swagger_ui_shows_a_lock_on_protected_operations_alone() {
    let server = TestServer::start();
    let browser = Browser::start().await;
    browser.client.goto(&format!("{}/api/v1/ui", server.base)).await.unwrap();
    browser.find("#operations-Widgets-delete_widget").await;
    let script = "return [...document.querySelectorAll('.opblock')]
        .map(block => [block.id, block.querySelector('.authorization__btn') !== null])";
    let locks: Vec<(String, bool)> =
        serde_json::from_value(browser.client.execute(script, Vec::new()).await.unwrap()).unwrap();
    assert_eq!(locks.len(), 32);
    for (id, locked) in locks {
        assert_eq!(locked, id != "operations-Auth-register" && id != "operations-Auth-log_in", "{id}");
    }
    browser.close().await;
}

#[tokio::test]
async fn swagger_ui_folds_failures_keeps_the_token_and_follows_the_system() {
    let server = TestServer::start();
    let browser = Browser::start().await;
    let page = format!("{}/api/v1/ui", server.base);
    browser.client.goto(&page).await.unwrap();
    browser.click("#operations-Auth-log_in .opblock-summary-control").await;
    browser.find("#operations-Auth-log_in tr.folded[data-code='503']").await;
    let height = "return document.querySelector('#operations-Auth-log_in').offsetHeight";
    let folded = browser.run(height).await.as_u64().unwrap();
    assert!(folded < 1500, "{folded} pixels");
    let text = "return document.querySelector('#operations-Auth-log_in').innerText";
    let shown = browser.run(text).await;
    assert!(shown.as_str().unwrap().contains("successfully logged in"), "{shown}");
    assert!(!shown.to_string().contains("additionalProp"), "{shown}");
    browser.click("#operations-Auth-log_in tr.folded[data-code='401'] button").await;
    browser.find("#operations-Auth-log_in tr.response[data-code='401'] .highlight-code").await;
    let shown = browser.run(text).await;
    assert!(shown.as_str().unwrap().contains("email or password does not match"), "{shown}");
    // What is answered is shown, also where it is a failure.
    let body = json!({ "email": "nobody@example.com", "password": PASSWORD });
    browser.click("#operations-Auth-log_in .opblock-summary-control").await;
    let (status, shown) = execute(&browser, "Auth-log_in", Some(&body)).await;
    assert_eq!((&*status, shown.contains("email or password does not match")), ("401", true), "{shown}");
    assert_eq!(browser.run("return document.querySelectorAll('section.models.is-open').length").await, 0);

    browser.click(".auth-wrapper .authorize").await;
    browser.fill(".dialog-ux .auth-container input", "a.token.kept").await;
    browser.click(".dialog-ux .auth-btn-wrapper .authorize").await;
    browser.client.refresh().await.unwrap();
    browser.find(".auth-wrapper .authorize.locked").await;

    let dark = "return matchMedia('(prefers-color-scheme: dark)').matches
        === document.documentElement.classList.contains('dark-mode')";
    assert_eq!(browser.run(dark).await, true);
    for width in [400, 1200] {
        browser.client.set_window_size(width, 1000).await.unwrap();
        let fits = "return innerWidth <= arguments[0] + 100
            && document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        let fits = browser.client.execute(fits, vec![json!(width)]).await.unwrap();
        assert_eq!(fits, true, "the page is wider than {width}");
    }
    let complaints: Vec<_> = browser
        .complaints()
        .await
        .into_iter()
        .filter(|said| !said.contains("401") && !said.contains("deep link"))
        .collect();
    assert_eq!(complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn the_start_page_has_style_and_links_that_lead_somewhere() {
    let server = TestServer::start();
    let browser = Browser::start().await;
    browser.client.goto(&server.base).await.unwrap();
    assert!(browser.client.title().await.unwrap().contains("latchkey"));
    let script = "return [...document.querySelectorAll('a')].map(link => link.href)";
    let links: Vec<String> = serde_json::from_value(browser.client.execute(script, Vec::new()).await.unwrap()).unwrap();
    for path in ["/api/v1/ui", "/api/v1/swagger.json", "/api/v1/openapi.json", "/api/v1/openapi.yaml"] {
        assert!(links.contains(&format!("{}{path}", server.base)), "{links:?}");
    }
    for link in links {
        let path = link.strip_prefix(&server.base).expect("no link leads to another host");
        assert_eq!(server.request(reqwest::Method::GET, &format!("/{path}")).send().await.status, 200, "{path}");
    }
    // Its commands have the address that it was opened by, and each can be copied.
    let base = browser.find("#base").await.text().await.unwrap();
    assert_eq!(base, format!("BASE={}/api/v1", server.base));
    assert_eq!(browser.run("return document.querySelectorAll('pre').length").await, 5);
    assert_eq!(browser.run("return document.querySelectorAll('.command > pre + button').length").await, 5);
    browser.run("window.setTimeout = () => 0").await; // what the button says stays
    browser.click(".command button").await;
    let said = browser.client.wait().at_most(Duration::from_secs(30));
    said.for_element(Locator::XPath("//button[text()='Copied']")).await.unwrap();
    let styled = "return document.styleSheets.length > 0 && document.styleSheets[0].cssRules.length > 0";
    assert_eq!(browser.client.execute(styled, Vec::new()).await.unwrap(), true);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
