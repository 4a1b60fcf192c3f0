//! A client that progenitor generated calls the server at `BASE`; `ADMIN` is an administrator there.

use std::env;

progenitor::generate_api!(spec = "openapi.json", interface = Builder);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USER: &str = "rust@example.com";
const PASSWORD: &str = "correct horse battery staple";

async fn logged_in(stranger: &Client, email: &str) -> Outcome<Client> {
    let token = stranger.log_in().body_map(|body| body.email(email).password(PASSWORD)).send().await?;
    let bearer = format!("Bearer {}", token.access_token).parse()?;
    let headers = [(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect();
    let http = reqwest::Client::builder().default_headers(headers).build()?;
    Ok(Client::new_with_client(stranger.baseurl(), http))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let (base, admins) = (env::var("BASE")?, env::var("ADMIN")?);
    let names = [0, 1, 2, 3, 4, 5].map(|number| format!("rust-{number}"));
    let stranger = Client::new(&base);
    let registered = stranger.register().body_map(|body| body.email(USER).password(PASSWORD)).send().await?;
    assert_eq!(registered.token_type, "bearer");
    let (user, admin) = (logged_in(&stranger, USER).await?, logged_in(&stranger, &admins).await?);

    for name in &names {
        let widget = |body: types::builder::NewWidget| {
            body.name(name.as_str()).info_url("https://example.com").deadline("2999-01-01")
        };
        admin.create_widget().body_map(widget).send().await?;
    }

    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        pages += 1;
        let page = user.list_widgets().page(pages).per_page(5).send().await?.into_inner();
        found.extend(page.items);
        if !page.has_next {
            break;
        }
    }
    assert_eq!((found.len(), pages), (names.len(), 2));
    for (widget, name) in found.iter().zip(&names) {
        assert_eq!(&widget.name, name);
        assert_eq!(widget.owner.as_ref().map(|owner| &owner.email), Some(&admins));
    }

    for name in &names {
        admin.delete_widget().name(name.as_str()).send().await?;
    }
    let gone = user.get_widget().name(names[0].as_str()).send().await;
    assert!(matches!(gone, Err(Error::ErrorResponse(answer)) if answer.status() == 404));
    user.delete_account().body_map(|body| body.password(PASSWORD)).send().await?;
    let refused = stranger.log_in().body_map(|body| body.email(USER).password(PASSWORD)).send().await;
    assert!(matches!(refused, Err(Error::ErrorResponse(answer)) if answer.status() == 401));
    Ok(())
}
