//! As whom the engine's process runs.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::unistd::User;

use crate::settings::Settings;

/// Who has rights to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever runs the program. The settings' user reads it, by its group.
    Read,
    /// The settings' user alone.
    Write,
}

/// Gives the settings' user these rights to a folder that nobody else can reach yet.
///
/// # Errors
/// There is no such user, or the folder is not ours to give.
pub(crate) fn give(folder: &Path, settings: &Settings, access: Access) -> io::Result<()> {
    match (account(settings)?, access) {
        (None, _) => Ok(()),
        (Some((uid, gid)), Access::Write) => chown(folder, Some(uid), Some(gid)),
        (Some((_, gid)), Access::Read) => {
            chown(folder, None, Some(gid))?;
            set_permissions(folder, Permissions::from_mode(0o750))
        }
    }
}

/// Makes the process that `command` starts run as the user of the settings, without
/// supplementary groups.
///
/// # Errors
/// There is no such user.
pub(crate) fn drop_to(
    command: &mut tokio::process::Command,
    settings: &Settings,
) -> io::Result<()> {
    // Signals of a terminal are for the supervisor alone.
    command.process_group(0);
    if let Some((uid, gid)) = account(settings)? {
        command.uid(uid).gid(gid);
    }
    Ok(())
}

/// Whether there is such a user.
///
/// # Errors
/// There is none.
pub(crate) fn is_known(settings: &Settings) -> io::Result<()> {
    account(settings).map(drop)
}

/// User and group id of the settings' user. Only root can become somebody else.
fn account(settings: &Settings) -> io::Result<Option<(u32, u32)>> {
    let Some(name) = settings.user.as_deref() else { return Ok(None) };
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("user {name} does not exist"));
    let user = User::from_name(name)?.ok_or_else(unknown)?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}
