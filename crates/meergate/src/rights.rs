//! Whose rights files are opened with, when the program is started as root for another user.
//!
//! What that user may write to, it may fill with links: to root, each path in there is a way to a file
//! of root's. So whatever lies in such folders is touched with the user's own rights alone, before the
//! program becomes the user for good.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{Gid, Uid, User, getegid, getgrouplist, getgroups, setegid, seteuid, setgroups};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, chownat, fstat, mkdirat, openat,
    openat2,
};
use start_error::StartError;

use crate::config::Config;

/// What the program keeps in its state directory.
const KEPT: [&str; 6] =
    ["ca.former.pem", "ca.key", "ca.lock", "ca.pem", "control.sock", "meergate.pid"];

static SETTLED: AtomicBool = AtomicBool::new(false);

/// The user that the program is to become; `None` if it is that one already, or stays who it is.
///
/// # Errors
/// There is no such user.
pub(crate) fn owner(config: &Config) -> Result<Option<User>, StartError> {
    let Some(name) = &config.user else { return Ok(None) };
    let user = User::from_name(name)
        .map_err(|e| refuse(config, format!("cannot look up the user ({e})")))?
        .ok_or_else(|| refuse(config, "there is no such user".into()))?;
    Ok((Uid::effective() != user.uid).then_some(user))
}

/// The groups of `user` besides its own.
pub(crate) fn groups(user: &User) -> nix::Result<Vec<Gid>> {
    let name = CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    let mut groups = getgrouplist(&name, user.gid)?;
    groups.retain(|group| *group != user.gid);
    Ok(groups)
}

/// From now on the program is whom it will be, and has threads: rights stay as they are.
pub(crate) fn settle() {
    SETTLED.store(true, Ordering::Relaxed);
}

/// Does `work` with the rights of the settings' user, if the program runs as root and is not settled yet:
/// rights are those of all threads.
///
/// # Errors
/// Those of `work`, and if rights can't be changed.
pub(crate) fn as_owner<T>(
    config: &Config,
    work: impl FnOnce() -> Result<T, StartError>,
) -> Result<T, StartError> {
    if SETTLED.load(Ordering::Relaxed) || !Uid::effective().is_root() {
        return work();
    }
    let Some(user) = owner(config)? else { return work() };
    let failed = |e: nix::Error| refuse(config, format!("cannot act as the user ({e})"));
    let (former, former_group) = (getgroups().map_err(failed)?, getegid());
    let own = groups(&user).map_err(failed)?;
    let become_owner = || {
        setgroups(&own)?;
        setegid(user.gid)?;
        seteuid(user.uid)
    };
    let done = become_owner().map_err(failed).and_then(|()| work());
    let restored = seteuid(Uid::from_raw(0))
        .and_then(|()| setegid(former_group))
        .and_then(|()| setgroups(&former));
    restored.map_err(failed)?;
    done
}

/// Makes sure that the state directory is the user's, where the program is to become another one.
///
/// # Errors
/// It can neither be made with that user's rights, nor given away safely.
pub(crate) fn give_state(config: &Config) -> Result<(), StartError> {
    let (Some(user), Ok(dir)) = (owner(config)?, config.state_dir()) else { return Ok(()) };
    let made = as_owner(config, || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| refuse(config, format!("cannot make the state directory ({e})")))
    });
    let given = give(&dir, &user);
    match (made, given) {
        (_, Ok(())) => Ok(()),
        (Err(made), Err(_)) => Err(made),
        (Ok(()), Err(e)) => Err(StartError::new(
            format!("cannot give the state directory to the user ({e})"),
            dir.display().to_string(),
            "give it, and all in it, to the user with chown",
        )),
    }
}

/// Gives `dir` to `user`. Made first if it is not there and the folder above is root's alone; so the
/// user can't put anything in the way.
fn give(dir: &Path, user: &User) -> io::Result<()> {
    let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let above =
        openat2(CWD, above, folder | OFlags::PATH, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let is_roots = |stat: &Stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0;
    let safe = is_roots(&fstat(&above)?);
    if safe {
        match mkdirat(&above, name, Mode::from_raw_mode(0o700)) {
            Err(rustix::io::Errno::EXIST) | Ok(()) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let folder = openat(&above, name, folder | OFlags::RDONLY, Mode::empty())?;
    let stat = fstat(&folder)?;
    if stat.st_uid == user.uid.as_raw() {
        return Ok(());
    }
    if !safe || !is_roots(&stat) {
        return Err(io::Error::other("it is neither the user's, nor root's alone"));
    }
    let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    let (uid, gid) = (uid.map(rustix::fs::Uid::from_raw), gid.map(rustix::fs::Gid::from_raw));
    // Nobody but root could put anything in here so far.
    for name in KEPT {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(&folder, name, flags, Mode::empty()) else { continue };
        let stat = fstat(&file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Another name of a file is the way to a file elsewhere.
        if matches!(kind, FileType::RegularFile | FileType::Socket) && stat.st_nlink == 1 {
            chownat(&file, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
    }
    Ok(rustix::fs::fchown(&folder, uid, gid)?)
}

fn refuse(config: &Config, what: String) -> StartError {
    let user = config.user.as_deref().unwrap_or_default();
    StartError::new(
        what,
        format!("user = {user:?}"),
        "name a user of this machine and start as root, or leave `user` out",
    )
}
