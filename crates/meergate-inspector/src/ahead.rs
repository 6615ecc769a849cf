//! What shows only when `run` opens it, looked at beforehand.

use std::io;
use std::path::Path;

use start_error::StartError;

use crate::settings::{Listen, Settings};
use crate::supervisor::privileges;

/// What `run` would refuse of the settings, as far as that can be told.
pub(crate) fn of(settings: &Settings) -> Vec<StartError> {
    let mut found = Vec::new();
    if let Err(error) = privileges::is_known(settings) {
        let advice = "name one of this machine, or make it (useradd --system)";
        found.push(StartError::new(error.to_string(), "user", advice));
    }
    let sockets = settings.listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(_) | Listen::Tls(_) => None,
        Listen::Unix(path) => Some(("listen", path)),
    });
    let files = [("eve", &settings.eve), ("control", &settings.control)];
    let files = files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
    found.extend(files.chain(sockets).filter_map(|(key, path)| misses_folder(key, path)));
    for (at, listen) in settings.listen.iter().enumerate() {
        let is_any = matches!(listen, Listen::Tcp(at) | Listen::Tls(at) if at.port() == 0);
        if !is_any && settings.listen[..at].contains(listen) {
            let what = format!("{listen} is there twice");
            found.push(StartError::new(what, "listen", "leave one of them out"));
        }
    }
    found
}

fn misses_folder(key: &str, file: &Path) -> Option<StartError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let error = match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => return None,
        Ok(_) => io::ErrorKind::NotADirectory.into(),
        Err(error) => error,
    };
    let what = format!("nothing can be made in {} ({error})", folder.display());
    let advice = "make the folder, and give it to whom the program runs as";
    Some(StartError::new(what, key, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_run_refuses_is_told_all_of_it() {
        let settings = Settings {
            user: Some("nobody-of-that-name".into()),
            eve: Some("/no-such-folder/eve.json".into()),
            control: Some("/dev/null/control.sock".into()),
            listen: ["127.0.0.1:1344", "unix:/no-such-folder/icap.sock", "127.0.0.1:1344"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            ..Settings::default()
        };
        let found = of(&settings);
        let words = ["user: ", ": eve: ", ": control: ", ": listen: make", "twice: listen: "];
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (told, words) in found.iter().map(ToString::to_string).zip(words) {
            assert!(told.contains(words), "{words}: {told}");
        }
        let settings = Settings {
            eve: Some("eve.json".into()),
            listen: ["127.0.0.1:0", "127.0.0.1:0"].map(|text| text.parse().unwrap()).to_vec(),
            ..Settings::default()
        };
        assert!(of(&settings).is_empty());
    }
}
