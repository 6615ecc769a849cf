//! `meergate ca`: the CA that signs forged certificates.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use start_error::StartError;

use crate::config::Config;
use crate::rights;
use crate::say::say;
use crate::tls::ca::{self, Authority, Place};

#[derive(Args, Debug)]
pub(super) struct Ca {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory with the CA.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the certificate (never the key) to standard output, for clients to trust.
    Export {
        /// The form to write it in.
        #[arg(long, value_enum, default_value_t = Form::Pem)]
        form: Form,
    },
    /// Take over a CA from elsewhere, such as an intermediate of the company's own CA.
    Import {
        /// Certificate (PEM), followed by its chain.
        cert: PathBuf,
        /// Private key (PEM).
        key: PathBuf,
        /// Overwrite the CA that is there.
        #[arg(long)]
        replace: bool,
    },
    /// Make a CA.
    New {
        /// Overwrite the CA that is there.
        #[arg(long)]
        replace: bool,
    },
    /// Have a new CA take over: it signs from the next reload on, and clients who know only the
    /// former one believe it until the overlap ends.
    Rotate {
        /// How long the former CA counts, in days; never beyond its own validity.
        #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        overlap: u32,
        /// Also where the present CA may not certify another one: clients must then trust the new
        /// one at once.
        #[arg(long)]
        at_once: bool,
    },
    /// Say where the CA is, its fingerprint and how long it is valid.
    Show,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// DER, as Windows and Android take it.
    Der,
    /// A profile for iPhones and Macs.
    Mobileconfig,
    /// PEM, as most take it.
    Pem,
}

impl Ca {
    pub(super) fn run(&self) -> Result<(), StartError> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path)?,
            None => Config::default(),
        };
        if self.state_dir.is_some() {
            config.state_dir.clone_from(&self.state_dir);
        }
        let place = Place::of(&config)?;
        rights::give_state(&config)?;
        let load = || own(&config, &place, || ca::load(&place));
        match &self.action {
            Action::Export { form } => export(&load()?, *form),
            Action::Import { cert, key, replace } => {
                let names = [cert, key].map(|path| path.display().to_string());
                let authority =
                    Authority::from_pem(&read(cert)?, &read(key)?, &names[0], &names[1])?;
                own(&config, &place, || ca::import(&place, &authority, *replace))?;
                describe(&place, &authority)
            }
            Action::New { replace } => {
                let made = own(&config, &place, || ca::make(&place, *replace))?;
                describe(&place, &made)
            }
            Action::Rotate { overlap, at_once } => {
                let overlap = Duration::from_secs(u64::from(*overlap) * 86_400);
                let new = own(&config, &place, || ca::rotate(&place, overlap, *at_once))?;
                describe(&place, &new)
            }
            Action::Show => describe(&place, &load()?),
        }
    }
}

/// Does `work` with the rights of whoever the state directory belongs to, if it is about files in there.
fn own<T>(
    config: &Config,
    place: &Place,
    work: impl FnOnce() -> Result<T, StartError>,
) -> Result<T, StartError> {
    if place.ours { rights::as_owner(config, work) } else { work() }
}

fn describe(place: &Place, authority: &Authority) -> Result<(), StartError> {
    say(&format!("certificate  {}", place.cert.display()))?;
    say(&format!("key          {}", place.key.display()))?;
    say(&format!("subject      {}", authority.subject_text()))?;
    say(&format!("fingerprint  {}", authority.fingerprint()))?;
    say(&format!("valid until  {}", authority.valid_until()))?;
    match authority.former() {
        Some(former) => say(&format!("former CA    counts until {}", former.until())),
        None => Ok(()),
    }
}

fn export(authority: &Authority, form: Form) -> Result<(), StartError> {
    let bytes = match form {
        Form::Der => authority.trusted()[0].to_vec(),
        Form::Mobileconfig => authority.mobileconfig().into_bytes(),
        Form::Pem => authority.trusted_pem().into_bytes(),
    };
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(|e| {
        StartError::new(
            format!("cannot write ({e})"),
            "standard output",
            "send it to a file: meergate ca export > ca.pem",
        )
    })
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|e| {
        StartError::new(
            format!("cannot read ({e})"),
            path.display().to_string(),
            "name a PEM file that this user may read",
        )
    })
}
