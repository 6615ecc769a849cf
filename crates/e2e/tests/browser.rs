//! Chromium browses a local HTTPS site through both programs.

use std::collections::HashMap;

use e2e::peers::nginx::Nginx;
use e2e::{Gateway, Inspected, Process, chromium, content, peers, programs};
use tempfile::TempDir;

struct Setup {
    nginx: Nginx,
    gateway: Gateway,
    _inspected: Inspected,
}

impl Setup {
    fn start() -> Self {
        let inspected = Inspected::start();
        let nginx = Nginx::http2(&inspected.identity());
        Self { nginx, gateway: inspected.proxy(), _inspected: inspected }
    }

    fn open(&self, path: &str) -> chromium::Page {
        let url = self.nginx.url(path);
        chromium::open(&url, self.gateway.proxy(), &self.gateway.authority())
    }
}

/// 80 scripts, 80 pictures and 40 style sheets; once loaded, the page says how many are whole.
fn site() -> HashMap<String, Vec<u8>> {
    let mut files = HashMap::new();
    let mut page = "<!doctype html><script>let scripts = 0</script>".to_owned();
    for i in 0..80 {
        // Of sizes from 100 bytes to 40 KB; a cut script does not parse.
        let filler = "x".repeat(100 + i % 20 * 2000);
        files.insert(format!("{i}.js"), format!("/*{filler}*/ scripts += 1;").into_bytes());
        page += &format!("<script src='{i}.js'></script>");
        let picture = "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>";
        files.insert(format!("{i}.svg"), picture.as_bytes().to_vec());
        page += &format!("<img src='{i}.svg'>");
    }
    for i in 0..40 {
        files.insert(format!("{i}.css"), format!("#s{i} {{ width: {}px }}", 100 + i).into_bytes());
        page += &format!("<link rel=stylesheet href='{i}.css'><div id=s{i}></div>");
    }
    page += "<p id=result></p><script>onload = () => {
        const images = [...document.images].filter(i => i.naturalWidth == 4).length;
        const styles = [...Array(40).keys()].filter(i =>
            document.getElementById('s' + i).offsetWidth == 100 + i).length;
        document.getElementById('result').textContent =
            `scripts ${scripts} images ${images} styles ${styles}`;
    }</script>";
    files.insert("index.html".to_owned(), page.into_bytes());
    files
}

#[test]
fn a_site_of_two_hundred_objects_loads_whole() {
    let setup = Setup::start();
    for (name, content) in site() {
        setup.nginx.put(name, &content);
    }
    let page = setup.open("/index.html");
    assert!(page.dom.contains("scripts 80 images 80 styles 40"), "{}\n{}", page.dom, page.log);
}

#[test]
fn what_pages_can_do_works() {
    let inspected = Inspected::start();
    let folder = TempDir::new().unwrap();
    let (certificates, key) = inspected.identity().write(folder.path());
    let mut command = peers::client("node");
    let script = programs::root().join("crates/e2e/clients/site.mjs");
    let mut server = Process::start("site.mjs", command.arg(script).args([certificates, key]));
    let port = server.wait_for("its port", |line| line.strip_prefix("port ").map(str::to_owned));
    let gateway = inspected.proxy();
    let url = format!("https://localhost:{port}/");
    let page = chromium::open(&url, gateway.proxy(), &gateway.authority());
    for what in [
        "downloads",
        "upload",
        "form",
        "streamedUpload",
        "streamedDownload",
        "events",
        "webSocket",
        "serviceWorker",
    ] {
        assert!(page.dom.contains(&format!("{what}: true")), "{what}: {}\n{}", page.dom, page.log);
    }
}

#[test]
fn the_block_page_is_seen() {
    let setup = Setup::start();
    setup.nginx.put("eicar.html", &content::eicar());
    let page = setup.open("/eicar.html");
    assert!(page.dom.contains("1000001"), "{}\n{}", page.dom, page.log);
    assert!(page.dom.contains("EICAR test file in a response"), "{}", page.dom);
    assert!(!content::has_eicar(page.dom.as_bytes()));
}
