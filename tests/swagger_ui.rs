//! Swagger UI is stored compressed. The compressed page is the one of poem-openapi. `PACK_SWAGGER_UI=1 cargo test swagger_ui` generates it
//! again.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use poem_openapi::OpenApiService;

#[test]
fn the_packed_swagger_ui_is_the_one_of_poem_openapi() {
    let service = OpenApiService::new((), "", "");
    let page = service.swagger_ui_html();
    assert_eq!(page.matches(&service.spec()).count(), 1);
    let page = page.replace(&service.spec(), "{{document}}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/pages/swagger_ui.html.gz");
    if std::env::var_os("PACK_SWAGGER_UI").is_some() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(page.as_bytes()).unwrap();
        fs::write(&path, packed.finish().unwrap()).unwrap();
    }
    let mut packed = String::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut packed).unwrap();
    assert!(packed == page, "poem-openapi has another one");
}
