//! Shows malware inside TLS being stopped: `make demo`.

use std::process::ExitCode;

use e2e::demo::{Demo, SCENES};

fn main() -> ExitCode {
    println!("Starting an HTTPS origin, meergate-inspector and meergate on loopback ...");
    let mut demo = Demo::start();
    println!(
        "  curl -> meergate {} -> {}\n                 |\n                 +-- {}\n",
        demo.gateway.proxy(),
        demo.origin.url("/"),
        demo.inspector.url()
    );

    println!(
        "{:<26} {:<8} {:>9}  {:<38} {:>6}",
        "asked for", "verdict", "signature", "the client got", "ms"
    );
    println!("{}", "-".repeat(92));
    let mut wrong = 0;
    let mut event = None;
    for scene in &SCENES {
        let outcome = demo.play(scene);
        let sid = outcome.sid.map_or_else(|| "-".to_owned(), |sid| sid.to_string());
        println!(
            "{:<26} {:<8} {:>9}  {:<38} {:>6}",
            scene.asked, outcome.verdict, sid, outcome.got, outcome.milliseconds
        );
        if let Err(reason) = outcome.right {
            wrong += 1;
            println!("  WRONG: {reason}");
        }
        event = event.or(outcome.event);
    }

    if let Some(event) = event {
        println!(
            "\nOne event of the engine, with the client's and the server's true ports:\n{event}"
        );
    }
    if wrong == 0 {
        println!("\nAll {} as they must be.", SCENES.len());
        ExitCode::SUCCESS
    } else {
        println!("\n{wrong} of {} not as they must be.", SCENES.len());
        ExitCode::FAILURE
    }
}
