//! Mail in a stream, as its server reads it.
//!
//! The engine looks for files in what it takes for the content of a mail, and servers differ from it in what they take
//! for that. So here is followed what the server is told, and what it says to that; where the engine then sees something
//! else, it has not seen the mail.

use std::borrow::Cow;
use std::mem;

use memchr::{memchr, memrchr};

use super::mime::Mime;
use super::tongue::{TOLD_BY, Tongue, is_command};
use crate::inspection::refusal::MailFault;

/// Bytes of a line up to which the engine reads all of it (`SMTP_LINE_BUFFER_LIMIT` of Suricata). RFC 5321 section
/// 4.5.3.1 has 512 for commands, 1,000 for text.
const LONGEST_LINE: usize = 4096;

/// What the client may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing before the reply to DATA. `plain`: the engine reads this line as DATA, too.
    Asked {
        plain: bool,
    },
    Command,
    Content,
    /// Nobody looks any more.
    Over,
    /// TLS.
    Secure,
    /// Nothing before the reply to STARTTLS.
    SecureAsked,
}

/// A dialogue of SMTP, if it is one.
#[derive(Debug)]
pub(super) struct Mail {
    stage: Stage,
    /// Replies that the server owes.
    owed: u32,
    /// The mail whose content comes.
    mime: Mime,
    tongue: Tongue,
    /// The client's line so far; of commands no more than tells them, with one blank for several, of the part behind the
    /// last CR or NUL.
    line: Vec<u8>,
    is_part_over: bool,
    line_length: usize,
    is_line_odd: bool,
    is_line_indented: bool,
    /// The last line of the client's ended in CRLF.
    ended_well: bool,
    /// The beginning of the server's line, and the code of the reply that it goes on with.
    reply: Vec<u8>,
    code: Option<[u8; 3]>,
    is_spoken: bool,
    /// The client went on behind what some take for DATA, before anything told that this is mail.
    has_gone_on: bool,
}

/// The next bytes for the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// What was kept until its line ended, or what stands in the place of all of it.
    pub(super) kept: Vec<u8>,
    pub(super) bytes: &'a [u8],
}

impl Mail {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Command,
            owed: 0,
            mime: Mime::default(),
            tongue: Tongue::new(),
            line: Vec::new(),
            is_part_over: false,
            line_length: 0,
            is_line_odd: false,
            is_line_indented: false,
            ended_well: false,
            reply: Vec::new(),
            code: None,
            is_spoken: false,
            has_gone_on: false,
        }
    }

    /// How many of the client's bytes wait for the end of their line.
    pub(super) fn kept(&self) -> usize {
        if self.stage == Stage::Content { self.line.len() } else { 0 }
    }

    /// Nothing is looked at any more. Returns what was kept.
    pub(super) fn give_up(&mut self) -> Vec<u8> {
        let kept = self.kept();
        self.stage = Stage::Over;
        let mut line = mem::take(&mut self.line);
        line.truncate(kept);
        line
    }

    /// Takes what the engine is to be fed next off the front of what the client says. Of a mail that is whole lines: at
    /// pieces of some Suricata takes the end of a mail, or nothing, for what is something else (`app-layer-smtp.c`,
    /// `SMTPPreProcessCommands`).
    ///
    /// # Errors
    /// None of it may go on.
    pub(super) fn client<'a>(&mut self, input: &mut &'a [u8]) -> Result<Part<'a>, MailFault> {
        self.tongue.client(input.len());
        let taken = match self.stage {
            Stage::Asked { .. } | Stage::SecureAsked if self.is_spoken => {
                return Err(MailFault::Early);
            }
            Stage::Asked { .. } | Stage::SecureAsked | Stage::Command => {
                self.has_gone_on |= self.stage != Stage::Command;
                self.stage = Stage::Command;
                let mut hellos = Vec::new();
                let taken = self.commands(input, &mut hellos)?;
                if !hellos.is_empty() {
                    let (said, rest) = input.split_at(taken);
                    let mut shown = said.to_vec();
                    hellos.into_iter().for_each(|at| shown[at] = b'E');
                    *input = rest;
                    return Ok(Part { kept: shown, bytes: &[] });
                }
                taken
            }
            Stage::Content => return self.content(input),
            Stage::Over => input.len(),
            // A record of a handshake.
            Stage::Secure if input.first() == Some(&22) => {
                self.stage = Stage::Over;
                input.len()
            }
            Stage::Secure => return Err(MailFault::Tls),
        };
        let (bytes, rest) = input.split_at(taken);
        *input = rest;
        Ok(Part { kept: Vec::new(), bytes })
    }

    /// Reads commands up to one behind which its reply has to be waited for, and says where clients of LMTP greet
    /// (RFC 2033): to the engine, which knows SMTP alone, they are to say EHLO.
    fn commands(&mut self, input: &[u8], hellos: &mut Vec<usize>) -> Result<usize, MailFault> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.line_length == 0 && is_command(piece, b"lhlo") {
                hellos.push(at);
            }
            let is_odd = |piece: &[u8]| piece.contains(&0) || piece.contains(&b'\r');
            // A CR at the end of a piece may be that of CRLF.
            let (text, cr) = match piece {
                [text @ .., b'\r'] => (text, true),
                text => (text, false),
            };
            self.is_line_odd |= is_odd(text) || (self.ended_well && !text.is_empty());
            self.ended_well = cr || (self.ended_well && piece.is_empty());
            // Some servers take a bare CR for the end of a line, too.
            for (number, part) in text.split(|b| matches!(b, 0 | b'\r')).enumerate() {
                if number > 0 {
                    self.part_ends();
                }
                self.take(part);
            }
            if cr {
                self.part_ends();
            }
            self.line_length += piece.len();
            if self.is_spoken && self.is_line_odd {
                return Err(MailFault::Line);
            }
            let Some(end) = end else { return Ok(input.len()) };
            at += end + 1;
            // Behind such a line the engine skips the rest of what it is fed.
            let is_long = mem::take(&mut self.line_length) + 1 >= LONGEST_LINE;
            self.command()?;
            if is_long || self.stage != Stage::Command {
                break;
            }
        }
        Ok(at)
    }

    /// Keeps what tells a command.
    fn take(&mut self, part: &[u8]) {
        if mem::take(&mut self.is_part_over) && !part.is_empty() {
            self.line.clear();
        }
        for &byte in part {
            let is_blank = byte.is_ascii_whitespace();
            match self.line.last() {
                _ if self.line.len() == TOLD_BY => return,
                None if is_blank => self.is_line_indented = true,
                Some(last) if is_blank && last.is_ascii_whitespace() => {}
                _ => self.line.push(byte),
            }
        }
    }

    /// What some take for a line has ended.
    fn part_ends(&mut self) {
        if !mem::replace(&mut self.is_part_over, true) {
            self.is_spoken |= self.tongue.tells(&self.line);
        }
    }

    /// A line of the client's has ended.
    fn command(&mut self) -> Result<(), MailFault> {
        self.part_ends();
        self.is_part_over = false;
        let line = mem::take(&mut self.line);
        let is_odd = mem::take(&mut self.is_line_odd);
        let is_indented = mem::take(&mut self.is_line_indented);
        let ended_well = mem::take(&mut self.ended_well);
        self.owed = self.owed.saturating_add(1);
        // As the most lenient server reads it.
        let text = &line[..];
        let begins =
            |name: &[u8]| text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
        if self.is_spoken && is_odd {
            return Err(MailFault::Line);
        }
        if self.is_spoken && is_command(text, b"bdat") {
            return Err(MailFault::Chunks);
        }
        if begins(b"data") {
            self.stage = Stage::Asked { plain: !is_indented };
            self.ended_well = ended_well;
        } else if self.is_spoken && begins(b"starttls") {
            self.stage = Stage::SecureAsked;
        }
        Ok(())
    }

    /// Reads content up to the end of its last whole line, or of the mail.
    fn content<'a>(&mut self, input: &mut &'a [u8]) -> Result<Part<'a>, MailFault> {
        let whole = memrchr(b'\n', input).map_or(0, |at| at + 1);
        let before = if whole == 0 { self.line.len() } else { 0 };
        if before + input.len() - whole >= LONGEST_LINE {
            return Err(MailFault::Line);
        }
        let mut at = 0;
        let mut instead: Option<Vec<u8>> = None;
        while at < whole {
            let end = at + memchr(b'\n', &input[at..whole]).map_or(whole - at, |end| end + 1);
            // Only the first line of them has a beginning that was kept.
            let line = match at == 0 && !self.line.is_empty() {
                true => Cow::Owned([&self.line[..], &input[..end]].concat()),
                false => Cow::Borrowed(&input[at..end]),
            };
            let is_end = is_end(&line, &mut self.ended_well)?;
            let other = match is_end {
                true => self.mime.end().map(|()| None)?,
                false => self.mime.line(&line)?,
            };
            match (&mut instead, other) {
                (None, None) => {}
                (None, Some(other)) => {
                    let before =
                        if at == 0 { Vec::new() } else { [&self.line, &input[..at]].concat() };
                    instead = Some([before, other].concat());
                }
                (Some(instead), other) => {
                    instead.extend_from_slice(other.as_deref().unwrap_or(&line));
                }
            }
            at = end;
            if is_end {
                self.stage = Stage::Command;
                self.owed = self.owed.saturating_add(1);
                self.ended_well = false;
                break;
            }
        }
        let kept = if at > 0 { mem::take(&mut self.line) } else { Vec::new() };
        let (bytes, rest) = input.split_at(at);
        *input = rest;
        if self.stage == Stage::Content {
            self.line.extend_from_slice(mem::take(input));
        }
        Ok(match instead {
            Some(instead) => Part { kept: instead, bytes: &[] },
            None => Part { kept, bytes },
        })
    }

    /// Reads what the server says.
    ///
    /// # Errors
    /// None of it may go on.
    pub(super) fn server(&mut self, mut bytes: &[u8]) -> Result<(), MailFault> {
        while !bytes.is_empty() && self.stage != Stage::Over {
            let end = memchr(b'\n', bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            // Before a reply there may be an empty line.
            let piece = if self.reply.is_empty() { piece.trim_ascii_start() } else { piece };
            let missing = 4usize.saturating_sub(self.reply.len()).min(piece.len());
            self.reply.extend_from_slice(&piece[..missing]);
            self.tongue.server(&self.reply, end.is_some());
            let Some(end) = end else { return Ok(()) };
            bytes = &bytes[end + 1..];
            let reply = mem::take(&mut self.reply);
            let Some((&code, rest)) = reply.split_first_chunk::<3>() else { continue };
            let is_last = rest.first() != Some(&b'-');
            let is_other = self.code.is_some_and(|before| before != code);
            let go_ahead = |code: [u8; 3]| &code == b"354";
            if self.is_spoken && is_other && (go_ahead(code) || self.code.is_some_and(go_ahead)) {
                return Err(MailFault::GoAhead);
            }
            self.code = (!is_last).then_some(code);
            if is_last {
                self.owed = self.owed.saturating_sub(1);
                self.answered(code)?;
            }
        }
        Ok(())
    }

    /// A reply has ended.
    fn answered(&mut self, code: [u8; 3]) -> Result<(), MailFault> {
        let is_asked = matches!(self.stage, Stage::Asked { .. });
        let has_gone_on = self.has_gone_on;
        self.has_gone_on &= self.owed > 0;
        if &code == b"354" && !self.is_spoken && (is_asked || has_gone_on) {
            // Whatever else was said.
            self.is_spoken = true;
            if !is_asked {
                return Err(MailFault::Early);
            }
        }
        let goes_ahead = &code == b"354" && self.is_spoken;
        match self.stage {
            Stage::Asked { plain: true } if self.owed == 0 && goes_ahead => {
                (self.stage, self.mime) = (Stage::Content, Mime::default());
            }
            _ if goes_ahead => return Err(MailFault::GoAhead),
            Stage::SecureAsked if self.owed == 0 && &code == b"220" => self.stage = Stage::Secure,
            Stage::Asked { .. } | Stage::SecureAsked if self.owed == 0 => {
                self.stage = Stage::Command;
                self.ended_well = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares that with what the engine made of it: which protocol it takes this for, and whether it takes what comes
    /// next for a mail.
    ///
    /// # Errors
    /// They do not agree.
    pub(super) fn agree(
        &mut self,
        protocol: Option<&str>,
        reads_mail: bool,
    ) -> Result<(), MailFault> {
        let is_smtp = protocol == Some("smtp");
        self.is_spoken |= is_smtp;
        let agreed = match self.stage {
            Stage::Asked { .. } => is_smtp,
            Stage::Content => is_smtp && reads_mail,
            // As long as the engine does not know yet, it may come to know.
            Stage::Command | Stage::SecureAsked => protocol.is_none() || is_smtp && !reads_mail,
            Stage::Over | Stage::Secure => true,
        };
        match agreed || !self.is_spoken {
            true => Ok(()),
            false => Err(MailFault::Unseen),
        }
    }
}

/// Whether a line of content ends the mail. It has the LF that ends it.
fn is_end(line: &[u8], ended_well: &mut bool) -> Result<bool, MailFault> {
    let began_well = mem::replace(ended_well, line.ends_with(b"\r\n"));
    if line.len() >= LONGEST_LINE {
        return Err(MailFault::Line);
    }
    if began_well && line == b".\r\n" {
        return Ok(true);
    }
    // The engine, and some servers, take a CR for the end of a line, and an LF alone.
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    match text.split(|&b| b == b'\r').any(|part| part == b".") {
        true => Err(MailFault::End),
        false => Ok(false),
    }
}
