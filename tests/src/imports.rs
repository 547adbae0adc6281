//! The imports between the files of a crate, read from their text, and the cycles among them.
//!
//! A file imports another one if a path of it, in a `use` declaration or elsewhere, leads into the module of that file. The
//! parser knows paths, comments, literals and modules, and nothing else of Rust. It does not see a name that a macro puts
//! together. Code for tests (`#[cfg(test)]`) is left out, and so are files of tests.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::Path,
};

/// The path of a module from the root of its crate.
type Module = Vec<String>;

/// A file of a crate.
#[derive(Debug)]
pub struct Source {
    /// Its name in messages.
    pub name: String,
    /// Its content.
    pub text: String,
    module: Module,
}

impl Source {
    /// The file `path`, which is relative to the folder of the crate's root. `prefix` is in front of it in messages.
    pub fn new(prefix: &str, path: &str, text: String) -> Self {
        let stem = path.strip_suffix(".rs").unwrap_or(path);
        let mut module: Module = stem.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
            module.pop();
        }
        Self { name: format!("{prefix}{path}"), text, module }
    }
}

/// The files of the crate whose root is in `folder`, without those of tests. `prefix` is in front of their names in messages.
///
/// # Errors
/// If a folder or a file cannot be read.
pub fn sources(folder: &Path, prefix: &str) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    collect(folder, prefix, "", &mut sources)?;
    Ok(sources)
}

fn collect(folder: &Path, prefix: &str, below: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "tests" {
                collect(folder, prefix, &format!("{path}/"), sources)?;
            }
        } else if path.ends_with(".rs") && entry.file_name() != "tests.rs" {
            sources.push(Source::new(prefix, &path, fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}

/// The cycles of imports between the files of one crate: a sentence for each group of files that import each other, which
/// names the files and lines of a shortest cycle.
pub fn cycles(sources: &[Source]) -> Vec<String> {
    let modules: BTreeMap<&[String], usize> =
        sources.iter().enumerate().map(|(index, source)| (source.module.as_slice(), index)).collect();
    let imports: Vec<BTreeMap<usize, usize>> =
        sources.iter().enumerate().map(|(index, source)| imports_of(index, source, &modules)).collect();
    let mut cycles = Vec::new();
    let mut reported = BTreeSet::new();
    for start in 0..sources.len() {
        let Some(cycle) = shortest_cycle(start, &imports) else { continue };
        if cycle.iter().any(|file| reported.contains(file)) {
            continue;
        }
        let step = |(place, &from): (usize, &usize)| {
            let to = cycle[(place + 1) % cycle.len()];
            format!("{}:{} imports {}", sources[from].name, imports[from][&to], sources[to].name)
        };
        cycles.push(cycle.iter().enumerate().map(step).collect::<Vec<_>>().join(", "));
        reported.extend(cycle);
    }
    cycles
}

/// The files that `source` imports, each with the line of the first import.
fn imports_of(own: usize, source: &Source, modules: &BTreeMap<&[String], usize>) -> BTreeMap<usize, usize> {
    let mut imports = BTreeMap::new();
    for path in paths(&source.text) {
        let mut current = source.module.clone();
        current.extend(path.inside);
        let mut rest = path.segments.as_slice();
        match rest[0].as_str() {
            "crate" => {
                current.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                let levels = rest.iter().take_while(|segment| *segment == "super").count();
                current.truncate(current.len().saturating_sub(levels));
                rest = &rest[levels..];
            }
            // It is a module in this one, or else a name of this file, or another crate.
            first => {
                current.push(first.to_owned());
                if !modules.contains_key(current.as_slice()) {
                    continue;
                }
                rest = &rest[1..];
            }
        }
        for segment in rest {
            current.push(segment.clone());
            if !modules.contains_key(current.as_slice()) {
                current.pop();
                break;
            }
        }
        // A module that is no file stands in that of its parent.
        while !modules.contains_key(current.as_slice()) && current.pop().is_some() {}
        if let Some(&file) = modules.get(current.as_slice()).filter(|file| **file != own) {
            imports.entry(file).or_insert(path.line);
        }
    }
    imports
}

/// A shortest way along the imports from a file back to itself.
fn shortest_cycle(start: usize, imports: &[BTreeMap<usize, usize>]) -> Option<Vec<usize>> {
    let mut reached_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &next in imports[file].keys() {
            if next == start {
                let mut cycle = vec![file];
                while let Some(&before) = reached_from.get(&cycle[cycle.len() - 1]) {
                    cycle.push(before);
                }
                cycle.reverse();
                return Some(cycle);
            }
            reached_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                file
            });
        }
    }
    None
}

/// A path in a file.
#[derive(Debug, PartialEq, Eq)]
struct CodePath {
    line: usize,
    /// The modules in this file that it stands in.
    inside: Module,
    segments: Vec<String>,
}

/// The paths of a file, without those of its tests.
fn paths(text: &str) -> Vec<CodePath> {
    let mut reader = Reader { tokens: tokens(text), at: 0, inside: Vec::new(), paths: Vec::new() };
    while reader.at < reader.tokens.len() {
        reader.item();
    }
    reader.paths
}

/// A word, `::`, or another character that is no space, with its line. Literals are the word `0`.
type Token = (usize, String);

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// The names of the modules that are open, and how many other blocks are open in each.
    inside: Vec<(String, usize)>,
    paths: Vec<CodePath>,
}

impl Reader {
    fn is(&self, ahead: usize, text: &str) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|(_, token)| token == text)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        let (_, token) = self.tokens.get(self.at + ahead)?;
        token.starts_with(|first: char| first.is_alphabetic() || first == '_').then_some(token.as_str())
    }

    /// Reads the next few tokens.
    fn item(&mut self) {
        if self.is(0, "#") && self.is(1, "[") {
            self.attribute();
        } else if self.is(0, "pub") && self.is(1, "(") {
            // The path of `pub(in path)` is no import.
            self.at += 1;
            self.skip_group();
        } else if self.is(0, "use") {
            self.at += 1;
            self.use_tree(&[]);
        } else if self.is(0, "mod") && self.word(1).is_some() && self.is(2, "{") {
            let name = self.tokens[self.at + 1].1.clone();
            self.inside.push((name, 0));
            self.at += 3;
        } else if self.is(0, "{") {
            if let Some((_, blocks)) = self.inside.last_mut() {
                *blocks += 1;
            }
            self.at += 1;
        } else if self.is(0, "}") {
            match self.inside.last_mut() {
                Some((_, 0)) => drop(self.inside.pop()),
                Some((_, blocks)) => *blocks -= 1,
                None => {}
            }
            self.at += 1;
        } else if (self.is(0, "::") || self.is(0, "$")) && self.word(1).is_some() {
            // It begins at the crates, is the rest of `<T>::name`, or is of a macro: `$crate::name` is a path of the files that
            // use it.
            self.at += 2;
            while self.is(0, "::") && self.word(1).is_some() {
                self.at += 2;
            }
        } else if self.word(0).is_some() {
            let mut segments = vec![self.tokens[self.at].1.clone()];
            let line = self.tokens[self.at].0;
            self.at += 1;
            while self.is(0, "::") && self.word(1).is_some() {
                segments.push(self.tokens[self.at + 1].1.clone());
                self.at += 2;
            }
            if segments.len() > 1 {
                self.add(line, segments);
            }
        } else {
            self.at += 1;
        }
    }

    fn add(&mut self, line: usize, segments: Vec<String>) {
        let inside = self.inside.iter().map(|(name, _)| name.clone()).collect();
        self.paths.push(CodePath { line, inside, segments });
    }

    /// Reads a tree of a `use` declaration to its end, which is left unread.
    fn use_tree(&mut self, prefix: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |(line, _)| *line);
        if prefix.is_empty() && self.is(0, "::") {
            // It begins at the crates.
            while self.at < self.tokens.len() && !self.is(0, ";") {
                self.at += 1;
            }
            return;
        }
        let mut segments = prefix.to_vec();
        while let Some(word) = self.word(0) {
            // `self` at the end names the module itself.
            if word != "self" || segments.is_empty() {
                segments.push(word.to_owned());
            }
            self.at += 1;
            if !self.is(0, "::") {
                break;
            }
            self.at += 1;
        }
        if self.is(0, "{") {
            self.at += 1;
            while self.at < self.tokens.len() && !self.is(0, "}") {
                let before = self.at;
                self.use_tree(&segments);
                if self.is(0, ",") || self.at == before {
                    self.at += 1;
                }
            }
            self.at += 1;
            return;
        }
        while self.at < self.tokens.len() && ![",", ";", "}"].iter().any(|end| self.is(0, end)) {
            // `*`, or `as` and a name.
            self.at += 1;
        }
        if !segments.is_empty() {
            self.add(line, segments);
        }
    }

    /// Reads an attribute, and what is for tests after it.
    fn attribute(&mut self) {
        self.at += 1;
        let start = self.at;
        self.skip_group();
        let words: Vec<&str> = self.tokens[start..self.at].iter().map(|(_, token)| token.as_str()).collect();
        let of_tests = words.get(1) == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
        if !of_tests {
            return;
        }
        while self.is(0, "#") {
            self.at += 1;
            self.skip_group();
        }
        let is_use = self.is(0, "use") || self.is(1, "use");
        while self.at < self.tokens.len() {
            let ends = self.is(0, "{") && !is_use;
            if self.is(0, "}") {
                return;
            } else if ["(", "[", "{"].iter().any(|open| self.is(0, open)) {
                self.skip_group();
            } else {
                self.at += 1;
                if self.tokens[self.at - 1].1 == ";" {
                    return;
                }
            }
            if ends {
                return;
            }
        }
    }

    /// Passes over a group in brackets, which begins here.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while let Some((_, token)) = self.tokens.get(self.at) {
            self.at += 1;
            match token.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// Takes `text` apart.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let (length, token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (comment(rest), None)
        } else if let Some(length) = raw_string(rest) {
            (length, Some("0"))
        } else if first == '"' || rest.starts_with("b\"") || rest.starts_with("c\"") {
            (string(rest), Some("0"))
        } else if let Some(length) = character(rest) {
            (length, Some("0"))
        } else if first == '\'' {
            // A lifetime.
            let end = rest[1..].find(|next| !is_word(next)).map_or(rest.len(), |end| end + 1);
            (end, None)
        } else if is_word(first) {
            let rest = rest.strip_prefix("r#").unwrap_or(rest);
            let end = rest.find(|next| !is_word(next)).unwrap_or(rest.len());
            (end, Some(&rest[..end]))
        } else if rest.starts_with("::") {
            (2, Some("::"))
        } else {
            let length = first.len_utf8();
            (length, (!first.is_whitespace()).then_some(&rest[..length]))
        };
        tokens.extend(token.map(|token| (line, token.to_owned())));
        let length = if rest.starts_with("r#") && token.is_some_and(|token| token != "0") {
            length + 2
        } else {
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment at the beginning of `text`. Such comments nest.
fn comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string with escapes at the beginning of `text`.
fn string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = text.find('"').map_or(0, |quote| quote + 1);
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The length of the raw string at the beginning of `text`, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let after =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let marks = after.len() - after.trim_start_matches('#').len();
    let inner = after[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let start = text.len() - inner.len();
    Some(inner.find(&end).map_or(text.len(), |place| start + place + end.len()))
}

/// The length of the character at the beginning of `text`, if there is one: a lifetime has no second quote.
fn character(text: &str) -> Option<usize> {
    let after = text.strip_prefix('b').unwrap_or(text).strip_prefix('\'')?;
    let start = text.len() - after.len();
    let first = after.chars().next()?;
    if first == '\\' {
        let end = after[2.min(after.len())..].find('\'')?;
        return Some(start + 2 + end + 1);
    }
    after[first.len_utf8()..].starts_with('\'').then(|| start + first.len_utf8() + 1)
}

#[cfg(test)]
mod tests;
