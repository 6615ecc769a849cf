//! Mails in a stream: no input panics, cuts make no difference, the engine sees the end where the server does, and whatever a
//! client would show of a mail that goes on, the engine has looked into.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use mail_fuzz::{Cuts, client, engine, split};

/// The inspector's own files: it can't be linked to without the engine.
#[path = "../../../crates/meergate-inspector/src/inspection"]
mod inspection {
    pub(crate) mod refusal;
    #[path = "stream"]
    pub(crate) mod stream {
        mod mail;
        mod mime;
        mod tongue;

        use crate::inspection::refusal::MailFault;

        /// What the engine is shown of what comes behind DATA in these pieces, and whether the mail has ended with it.
        pub(crate) fn show<'a>(
            pieces: impl Iterator<Item = &'a [u8]>,
        ) -> Result<(Vec<u8>, bool), MailFault> {
            let mut mail = mail::Mail::new();
            mail.server(b"220 mx\r\n")?;
            for (mut command, reply) in
                [(&b"MAIL FROM:<a>\r\n"[..], &b"250 ok\r\n"[..]), (b"DATA\r\n", b"354 go\r\n")]
            {
                mail.client(&mut command)?;
                mail.server(reply)?;
            }
            let mut shown = Vec::new();
            for mut piece in pieces {
                while !piece.is_empty() {
                    let part = mail.client(&mut piece)?;
                    shown.extend_from_slice(&part.kept);
                    shown.extend_from_slice(part.bytes);
                }
            }
            let has_ended = mail.agree(Some("smtp"), true).is_err();
            assert_ne!(has_ended, mail.agree(Some("smtp"), false).is_err());
            shown.extend(mail.give_up());
            Ok((shown, has_ended))
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    // The mail up to its end, as its server reads it (RFC 5321 section 4.1.1.4).
    let end = match bytes.starts_with(b".\r\n") {
        true => Some(3),
        false => bytes.windows(5).position(|part| part == b"\r\n.\r\n").map(|at| at + 5),
    };
    let bytes = &bytes[..end.unwrap_or(bytes.len())];
    let whole = inspection::stream::show(std::iter::once(bytes));
    let mut rest = bytes;
    let pieces = Cuts::new(seed).map_while(|length| {
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(
        whole.is_ok(),
        inspection::stream::show(pieces).is_ok_and(|cut| Some(cut) == whole.clone().ok())
    );
    let Ok((shown, has_ended)) = whole else { return };
    assert_eq!(has_ended, end.is_some());
    if !has_ended {
        return;
    }
    let seen = engine(&shown);
    for body in client(&bytes[..bytes.len() - 3]).iter().filter(|body| !body.is_empty()) {
        assert!(
            seen.iter().any(|seen| seen.windows(body.len()).any(|part| part == body)),
            "{:?} is not in {:?}, which came of {:?}",
            body.escape_ascii().to_string(),
            seen.iter().map(|seen| seen.escape_ascii().to_string()).collect::<Vec<_>>(),
            shown.escape_ascii().to_string()
        );
    }
});
