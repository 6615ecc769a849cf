//! Compiles the shim and joins it with the static libsuricata into one object that shows only the shim's functions.
//!
//! Static, because then nothing has to be installed, or found by a run-time path, where the program runs; and joined
//! into one object, because that hides every name of Suricata and of the Rust runtime inside it. So the program may
//! have its own allocator, its own version of any vendored crate, and be built by another compiler version.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// What the shim puts itself in front of (`ld --wrap`).
const WRAPPED: &[&str] = &[
    "AlertQueueAppend",
    "DetectEngineReload",
    "DetectEngineSetEvent",
    "exit",
    "FileAppendData",
    "FileAppendDataById",
    "FileAppendGAPById",
    "FileOpenFileWithId",
    "FilesPrune",
    "glob",
    "HSSaveCacheIterator",
    "HtpBodyPrune",
    "htp_config_register_request_body_data",
    "htp_config_register_response_body_data",
    "htp_config_register_response_header_data",
    "htp_config_set_request_decompression",
    "htp_connp_close",
    "htp_connp_response_data",
    "HTPCalloc",
    "HTPMalloc",
    "HTPRealloc",
    "HttpRangeContainerOpenFile",
    "OutputJsonBuilderBuffer",
    "pcre2_match_8",
    "pcre2_set_match_limit_8",
    "pcre2_set_recursion_limit_8",
    "RegisterHTPParsers",
    "SCConfLogOpenGeneric",
    "SCFatalErrorOnInitStatic",
    "SCLog",
    "SCLogErr",
    "SCLogMessage",
    "SCSmtpMimeParseLine",
    "SigLoadSignatures",
    "StreamReassembleRaw",
];

/// What only a libsuricata with Hyperscan has of these.
const OF_HYPERSCAN: &str = "HSSaveCacheIterator";

/// The shim's functions, and those of ours that it calls.
const VISIBLE: &str = "mgs_*";

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=LIBSURICATA_PREFIX");
    println!("cargo:rerun-if-env-changed=MEERGATE_CACHE");
    if let Err(message) = build() {
        println!("cargo::error={message}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn build() -> Result<(), String> {
    let prefix = prefix()?;
    let headers = prefix.join("include/suricata");
    for needed in static_libraries(&prefix).into_iter().chain([headers.join("suricata.h")]) {
        if !needed.exists() {
            return Err(format!(
                "{} is missing: run scripts/install-libsuricata --force",
                needed.display()
            ));
        }
        println!("cargo:rerun-if-changed={}", needed.display());
    }

    let objects = cc::Build::new()
        .files(sources()?)
        .include(&headers)
        .include("shim/stand-in")
        .define("HAVE_CONFIG_H", None)
        .opt_level(2)
        .flag("-fno-strict-aliasing")
        .warnings(true)
        .extra_warnings(false)
        .try_compile_intermediates()
        .map_err(|error| {
            format!("the shim does not compile against {}: {error}", headers.display())
        })?;

    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| error.to_string())?);
    stands_in_front(&prefix)?;
    let joined = join(&objects, &prefix, &out)?;
    archive(&joined, &out)?;
    settings(&prefix, &out)?;

    println!("cargo:rustc-link-search=native={}", out.display());
    // Not bundled into the rlib: it would be copied for every crate on top.
    println!("cargo:rustc-link-lib=static:-bundle=meergate_suricata");
    for library in system_libraries(&prefix)? {
        println!("cargo:rustc-link-lib={library}");
    }
    println!("cargo:rustc-env=LIBSURICATA_PROGRAM={}", prefix.join("bin/suricata").display());
    Ok(())
}

/// Where libsuricata is: named by the environment, installed on the machine, or built by our script.
fn prefix() -> Result<PathBuf, String> {
    if let Some(prefix) = env::var_os("LIBSURICATA_PREFIX") {
        return Ok(prefix.into());
    }
    if let Some(prefix) = installed_prefix() {
        return Ok(prefix);
    }
    let cache = env::var_os("MEERGATE_CACHE").map(PathBuf::from).or_else(|| {
        let base = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty());
        base.map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .map(|base| base.join("meergate"))
    });
    let current = cache.map(|cache| cache.join("libsuricata/current"));
    current.and_then(|current| current.canonicalize().ok()).ok_or_else(|| {
        "libsuricata is not installed: run scripts/install-libsuricata (or set LIBSURICATA_PREFIX)".to_owned()
    })
}

/// The prefix of the `libsuricata-config` on the PATH, if that is a libsuricata 8 with static libraries.
fn installed_prefix() -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    let config = env::split_paths(&paths)
        .map(|folder| folder.join("libsuricata-config"))
        .find(|candidate| candidate.is_file())?;
    let prefix = config.canonicalize().ok()?.parent()?.parent()?.to_path_buf();
    let autoconf = fs::read_to_string(prefix.join("include/suricata/autoconf.h")).ok()?;
    let usable = autoconf.contains("#define PACKAGE_VERSION \"8.")
        && static_libraries(&prefix).iter().all(|library| library.exists());
    usable.then_some(prefix)
}

fn static_libraries(prefix: &Path) -> [PathBuf; 2] {
    ["lib/libsuricata_c.a", "lib/libsuricata_rust.a"].map(|library| prefix.join(library))
}

fn sources() -> Result<Vec<PathBuf>, String> {
    let mut sources = fs::read_dir("shim")
        .map_err(|error| format!("shim: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect::<Vec<_>>();
    sources.sort();
    Ok(sources)
}

/// Checks that what the shim puts itself in front of is called across objects: a call within one object is bound by the
/// compiler, and would go past the shim without a word.
fn stands_in_front(prefix: &Path) -> Result<(), String> {
    // Not nm, which asks a compiler's plugin about objects with bitcode in them, and then may know no symbols at all.
    let mut readelf = Command::new(tool("READELF", "readelf"));
    let symbols = run(readelf.args(["--syms", "--wide"]).args(static_libraries(prefix)))?;
    // Number, value, size, type, binding, visibility, section and name.
    let called = symbols
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace().skip(6);
            (columns.next() == Some("UND")).then(|| columns.next())?
        })
        .collect::<HashSet<_>>();
    let is_missing = |name: &&&str| !called.contains(**name) && **name != OF_HYPERSCAN;
    match WRAPPED.iter().find(is_missing) {
        None => Ok(()),
        Some(name) => Err(format!(
            "no object of {} calls {name} of another, so the shim cannot stand in front of it: this is not the \
             libsuricata that it was written for",
            prefix.display()
        )),
    }
}

fn join(objects: &[PathBuf], prefix: &Path, out: &Path) -> Result<PathBuf, String> {
    let joined = out.join("joined.o");
    let mut ld = Command::new(tool("LD", "ld"));
    // Section groups are resolved here and now: kept, one of them (the pointer to the Rust personality) could give way
    // to the program's of the same name, and leave a reference to nothing.
    ld.args(["-r", "--force-group-allocation", "-o"]).arg(&joined);
    ld.args(WRAPPED.iter().map(|name| format!("--wrap={name}")));
    ld.args(objects);
    ld.arg("--start-group").args(static_libraries(prefix)).arg("--end-group");
    run(&mut ld)?;
    // The standard library of Rust carries bitcode of its own LLVM, on which another LLVM's plugin chokes.
    run(Command::new(tool("OBJCOPY", "objcopy"))
        .args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"])
        .args(["--strip-debug", "--wildcard", "--keep-global-symbol", VISIBLE])
        .arg(&joined))?;
    Ok(joined)
}

fn archive(object: &Path, out: &Path) -> Result<(), String> {
    let library = out.join("libmeergate_suricata.a");
    // ar adds to what is there.
    let _ = fs::remove_file(&library);
    run(Command::new(tool("AR", "ar")).arg("crs").arg(&library).arg(object))?;
    Ok(())
}

/// Suricata's own words for classes and references, which the crate takes into itself: programs then need nothing of
/// the prefix. Without them alerts only lack these words.
fn settings(prefix: &Path, out: &Path) -> Result<(), String> {
    let folders = [prefix.join("etc/suricata"), PathBuf::from("/etc/suricata")];
    for name in ["classification.config", "reference.config"] {
        let file = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        let text = match &file {
            Some(file) => {
                println!("cargo:rerun-if-changed={}", file.display());
                fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?
            }
            None => {
                println!(
                    "cargo::warning={name} of Suricata is neither in {} nor in {}: \
                          alerts will lack categories and priorities",
                    folders[0].display(),
                    folders[1].display()
                );
                Vec::new()
            }
        };
        fs::write(out.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// The `-l` libraries that `libsuricata-config` names, less Suricata's own.
fn system_libraries(prefix: &Path) -> Result<Vec<String>, String> {
    let config = prefix.join("bin/libsuricata-config");
    let output = Command::new(&config)
        .args(["--libs", "--static"])
        .output()
        .map_err(|error| format!("{}: {error}", config.display()))?;
    let mut libraries = Vec::new();
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if let Some(name) = word.strip_prefix("-l")
            && !name.starts_with("suricata")
            && !libraries.iter().any(|known| known == name)
        {
            libraries.push(name.to_owned());
        }
    }
    Ok(libraries)
}

fn tool(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// Runs it and returns what it printed.
fn run(command: &mut Command) -> Result<String, String> {
    match command.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{command:?} failed: {}",
                text.lines().take(5).collect::<Vec<_>>().join("; ")
            ))
        }
        Err(error) => Err(format!(
            "{} does not run ({error}): install binutils",
            command.get_program().to_string_lossy()
        )),
    }
}
