//! The HTTP of the metrics' socket: reads a request and writes its answer (RFC 9112).
//!
//! A connection has one request, and nothing of it counts but its first line: the answer closes the connection. So a header or a body
//! cannot change how a later request is read, and there is no need of a parser for them; their form is checked.

use std::fmt::Write as _;

use super::exposition::MEDIA_TYPE;

/// Longest request without its body, in bytes: to the end of the empty line.
pub const REQUEST_MAX: usize = 8 << 10;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request is for the metrics.
    Metrics,
    /// The request is malformed, for this reason.
    Bad(&'static str),
    /// There is nothing at this place.
    NotFound,
    /// The place has no such method.
    NotAllowed,
}

/// The verdict on a request of which `bytes` have come; none while it is not whole.
pub fn judge(bytes: &[u8]) -> Option<Verdict> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let head = &bytes[..end.map_or(bytes.len(), |end| end + 2)];
    if let Some(reason) = misplaced(head) {
        return Some(Verdict::Bad(reason));
    }
    if end.map_or(bytes.len() + 1, |end| end + 4) > REQUEST_MAX {
        return Some(Verdict::Bad("the request is too long"));
    }
    end.map(|_| judge_whole(head).unwrap_or_else(Verdict::Bad))
}

/// What cannot be in the head of a request: a line that does not end with CRLF, and bytes that no line has. A client that sends them
/// would wait for an answer in vain.
fn misplaced(head: &[u8]) -> Option<&'static str> {
    let is_bare = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => false,
    };
    if head.iter().enumerate().any(is_bare) {
        return Some("a line does not end with CR LF");
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\r\n\t".contains(byte);
    head.iter().any(is_control).then_some("a line has a control character")
}

/// The verdict on a whole head, whose lines end with CRLF.
fn judge_whole(head: &[u8]) -> Result<Verdict, &'static str> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the first line is not METHOD TARGET VERSION");
    };
    if !is_token(method) {
        return Err("the method is malformed");
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err("the target is malformed");
    }
    let is_newer = match version {
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => true,
        _ => return Err("the version is not HTTP/1.x"),
    };
    let mut hosts = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a header has no colon")?;
        if !is_token(&line[..colon]) {
            return Err("the name of a header is malformed");
        }
        hosts += usize::from(line[..colon].eq_ignore_ascii_case(b"host"));
    }
    // RFC 9112, section 3.2.
    if hosts > 1 || is_newer && hosts == 0 {
        return Err("the request needs one Host header");
    }
    // The other form of a target is a proxy's (section 3.2.2).
    let path = match target.strip_prefix(b"http://") {
        Some(rest) => rest.iter().position(|byte| *byte == b'/').map_or(&b"/"[..], |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    Ok(match (path, method) {
        (b"/metrics", b"GET") => Verdict::Metrics,
        (b"/metrics", _) => Verdict::NotAllowed,
        _ => Verdict::NotFound,
    })
}

/// Whether this is a token (RFC 9110, section 5.6.2).
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// The answer: the `metrics` where they are asked for, else a sentence.
pub fn answer(verdict: Verdict, metrics: &str) -> Vec<u8> {
    let sentence;
    let (status, kind, body) = match verdict {
        Verdict::Metrics => ("200 OK", MEDIA_TYPE, metrics),
        Verdict::Bad(reason) => {
            sentence = format!("{reason}; send GET /metrics HTTP/1.1\n");
            ("400 Bad Request", "text/plain; charset=utf-8", sentence.as_str())
        }
        Verdict::NotFound => (
            "404 Not Found",
            "text/plain; charset=utf-8",
            "there is nothing here; the metrics are at /metrics\n",
        ),
        Verdict::NotAllowed => (
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            "the metrics can only be read; send GET\n",
        ),
    };
    let allow = if verdict == Verdict::NotAllowed { "Allow: GET\r\n" } else { "" };
    let mut head = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        head,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    (head + body).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(bytes: &[u8]) -> bool {
        matches!(judge(bytes), Some(Verdict::Bad(_)))
    }

    #[test]
    fn requests_are_for_the_metrics_or_refused() {
        for (request, verdict) in [
            ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", Verdict::Metrics),
            ("GET /metrics HTTP/1.0\r\n\r\n", Verdict::Metrics),
            ("GET /metrics?name=a HTTP/1.1\r\nhost:\r\nAccept: */*\r\n\r\n", Verdict::Metrics),
            ("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\nand more", Verdict::Metrics),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::NotFound),
            ("GET http://localhost HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::NotFound),
            ("GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::NotFound),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::NotFound),
            ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Verdict::NotAllowed),
            ("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::NotAllowed),
        ] {
            assert_eq!(judge(request.as_bytes()), Some(verdict), "{request}");
            let (head, _) = request.split_at(request.find("\r\n\r\n").unwrap());
            for end in 0..=head.len() + 3 {
                assert_eq!(judge(&request.as_bytes()[..end]), None, "{:?}", &request[..end]);
            }
        }
    }

    #[test]
    fn malformed_requests_are_refused_as_soon_as_they_are() {
        for request in [
            "\r\n\r\n",
            "GET /metrics\r\n\r\n",
            "GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET  /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /metrics HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /m\u{e9}trics HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost a\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n folded: a\r\n\r\n",
            // Not whole.
            "\n",
            "GET /metrics HTTP/1.1\n",
            "GET /metrics\rHTTP/1.1",
            "GET /\0",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(bad(request.as_bytes()), "{request:?}: {:?}", judge(request.as_bytes()));
        }
        let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(REQUEST_MAX));
        assert!(bad(long.as_bytes()) && bad((long + "\r\n\r\n").as_bytes()));
        assert_eq!(judge(&[b'x'; REQUEST_MAX - 1]), None);
    }

    #[test]
    fn answers_have_their_length_and_end_the_connection() {
        let text = |verdict| String::from_utf8(answer(verdict, "a 1\n")).unwrap();
        assert_eq!(
            text(Verdict::Metrics),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\n\
             Connection: close\r\n\r\na 1\n"
        );
        assert!(text(Verdict::NotAllowed).contains("\r\nAllow: GET\r\n"));
        for (verdict, status) in [
            (Verdict::Bad("no"), "400 Bad Request"),
            (Verdict::NotFound, "404 Not Found"),
            (Verdict::NotAllowed, "405 Method Not Allowed"),
        ] {
            let text = text(verdict);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
        }
    }
}
