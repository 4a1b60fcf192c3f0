//! Rules that every response follows.

use reqwest::StatusCode;

use super::harness::Answer;

impl Answer {
    pub(super) fn keeps_the_house_rules(&self, path: &str, may_fail: bool) {
        let Self { status, text, .. } = self;
        assert!(!status.is_server_error() || may_fail, "{path}: {status} {text}");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert!(!self.header("x-request-id").is_empty());
        // Over plain HTTP this header has no effect (RFC 6797 §7.2).
        assert!(!self.headers.contains_key("strict-transport-security"));
        let is_page = self.headers.contains_key("etag") && !path.starts_with("/.well-known/");
        if is_page {
            let policy = self.header("content-security-policy");
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe-"), "{policy}");
            assert_eq!(self.header("referrer-policy"), "no-referrer");
        } else if !path.starts_with("/.well-known/") || !status.is_success() && *status != StatusCode::NOT_MODIFIED {
            assert_eq!(self.header("cache-control"), "no-store");
        }
        if !is_page && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(status) {
            let is_jwks = path == "/.well-known/jwks.json" && status.is_success();
            let expected = if is_jwks { "application/jwk-set+json" } else { "application/json" };
            assert_eq!(self.header("content-type"), expected, "{path}: {status} {text}");
        }
        if status.is_client_error() || status.is_server_error() {
            let json = self.json();
            assert_eq!(json["status"], "fail");
            assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()));
            let members: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
            assert!(members.iter().all(|name| ["status", "message", "errors"].contains(&name.as_str())), "{members:?}");
            assert!(json.get("errors").is_none_or(|errors| !errors.as_object().unwrap().is_empty()));
        }
        if *status == StatusCode::UNAUTHORIZED {
            let challenge = self.header("www-authenticate");
            let for_services = challenge.starts_with("Basic realm=\"services@");
            assert_eq!(for_services, path.starts_with("/api/v1/token"), "{path}: {challenge}");
            assert!(for_services || challenge.starts_with("Bearer realm=\""), "{path}: {challenge}");
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(status) {
            assert!(self.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
        if *status == StatusCode::METHOD_NOT_ALLOWED {
            assert!(!self.header("allow").is_empty());
        }
    }
}
