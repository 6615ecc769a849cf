//! By what is told that the client of a stream speaks of mail, whoever greeted it and whatever the engine takes it for.

/// Bytes of a line that tell what it is.
pub(super) const TOLD_BY: usize = 16;
/// Bytes of a client that no server of mail would take before it greets: they would have filled its window.
const MOST_UNGREETED: usize = 1 << 20;
/// What a turn of a client of mail may begin with (RFC 5321, RFC 2033, and what servers take besides).
const COMMANDS: [&[u8]; 17] = [
    b"auth",
    b"bdat",
    b"data",
    b"ehlo",
    b"etrn",
    b"expn",
    b"helo",
    b"help",
    b"lhlo",
    b"mail",
    b"noop",
    b"quit",
    b"rcpt",
    b"rset",
    b"starttls",
    b"vrfy",
    b"xclient",
];

/// How the server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Server {
    /// As those of mail do: in codes.
    InCodes,
    Otherwise,
    #[default]
    Silent,
}

/// What is known of the two that speak.
#[derive(Debug)]
pub(super) struct Tongue {
    server: Server,
    /// Bytes that the client said to a silent server.
    ungreeted: usize,
    /// The client has said nothing but commands since the server spoke.
    is_turn_of_commands: bool,
}

impl Tongue {
    pub(super) fn new() -> Self {
        Self { server: Server::Silent, ungreeted: 0, is_turn_of_commands: true }
    }

    /// The client says so many bytes.
    pub(super) fn client(&mut self, length: usize) {
        if self.server == Server::Silent {
            self.ungreeted = self.ungreeted.saturating_add(length);
        }
    }

    /// The server says something, of which this is the beginning of a line.
    pub(super) fn server(&mut self, first: &[u8], has_line_ended: bool) {
        self.is_turn_of_commands = true;
        let code = first.first_chunk::<3>();
        let may_be_code = first.iter().take(3).all(u8::is_ascii_digit);
        if self.server != Server::Silent || first.is_empty() {
            return;
        }
        match code {
            // A server of news: what follows may be an article.
            Some(b"200" | b"201") => self.server = Server::Otherwise,
            Some(_) if may_be_code => self.server = Server::InCodes,
            None if may_be_code && !has_line_ended => {}
            _ => self.server = Server::Otherwise,
        }
    }

    /// Whether a line of the client's, or what some take for one, tells that it speaks of mail. Where another protocol has
    /// begun that must be said where commands are: a mail that is stored, for instance, may say the same within.
    pub(super) fn tells(&mut self, line: &[u8]) -> bool {
        let was_turn = self.is_turn_of_commands;
        self.is_turn_of_commands &=
            line.is_empty() || COMMANDS.iter().any(|name| is_command(line, name));
        let may_tell = match self.server {
            Server::InCodes => true,
            Server::Otherwise => was_turn,
            Server::Silent => self.ungreeted <= MOST_UNGREETED,
        };
        may_tell && is_of_mail(line)
    }
}

/// Whether it is this command, with something behind it or not.
pub(super) fn is_command(line: &[u8], name: &[u8]) -> bool {
    behind(line, name).is_some_and(|rest| rest.first().is_none_or(|b| *b <= b' '))
}

/// Whether only clients of mail say that.
fn is_of_mail(line: &[u8]) -> bool {
    let argument = |name: &[u8]| {
        let rest = behind(line, name)?;
        rest.first().is_none_or(|b| *b <= b' ').then(|| rest.trim_ascii_start())
    };
    let hellos: [&[u8]; 3] = [b"ehlo", b"helo", b"lhlo"];
    // Some servers look for an address behind `<` or `:`, and for no more.
    let has_path = |rest: &[u8], word: &[u8]| {
        behind(rest, word).is_some() || rest.iter().any(|b| matches!(b, b'<' | b':'))
    };
    hellos
        .iter()
        .filter_map(|name| argument(name))
        .any(|rest| rest.first().is_none_or(|b| *b > b' '))
        || argument(b"mail").is_some_and(|rest| has_path(rest, b"from"))
        || argument(b"rcpt").is_some_and(|rest| has_path(rest, b"to"))
        || argument(b"bdat").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

/// What follows the name, in whichever case it is written.
fn behind<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = line.split_at_checked(name.len())?;
    first.eq_ignore_ascii_case(name).then_some(rest)
}
