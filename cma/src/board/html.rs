//! A diagnosis as one page without references to other files, to attach to a report of a bug.

use std::fmt::Write as _;

use super::diagnosis::Diagnosis;
use crate::{map::Map, size};

const STYLE: &str = "body{font:15px/1.5 'DejaVu Sans','Helvetica Neue',Arial,sans-serif;color:#1d2733;max-width:64em;\
    margin:2em auto;padding:0 1em}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}.note{color:#5b6876}\
    li{margin:.3em 0}figure{margin:1em 0}svg{max-width:100%;height:auto}pre{background:#f4f6f8;padding:.8em;overflow-x:auto;\
    font-size:13px}.wrong{border-left:4px solid #c0392b;padding-left:.8em}.fine{border-left:4px solid #1f8a70;padding-left:.8em}";

impl Diagnosis {
    /// The page.
    pub fn to_html(&self) -> String {
        let title = escape(self.model.as_deref().unwrap_or("a board"));
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>Contiguous memory of {title}</title>\
             <style>{STYLE}</style></head><body>\n<h1>Contiguous memory of {title}</h1>\n<p>{}</p>\n",
            escape(&self.heading())
        );
        if let Some(memory) = self.memory() {
            let _ = writeln!(page, "<p>{}</p>", escape(&memory));
        }
        let class = if self.is_wrong() { "wrong" } else { "fine" };
        let _ = writeln!(page, "<section class=\"{class}\"><h2>What is wrong</h2>\n<ul>");
        items(&mut page, &self.summary);
        page.push_str("</ul></section>\n");
        for case in &self.cases {
            let _ = writeln!(page, "<h2>{}</h2>\n<ul>", escape(&case.title()));
            items(&mut page, &case.facts());
            page.push_str("</ul>\n");
            figures(&mut page, &case.maps);
            if !case.remedies.is_empty() {
                page.push_str("<p>What would let it pass, the least effort first:</p>\n<ol>\n");
                for remedy in &case.remedies {
                    let _ = writeln!(
                        page,
                        "<li><strong>{}</strong>: {}</li>",
                        escape(&remedy.effort.to_string()),
                        escape(&remedy.text)
                    );
                }
                page.push_str("</ol>\n");
            }
        }
        for window in &self.windows {
            let base = window.base.map_or_else(String::new, |base| format!(" at {base:#x}"));
            let heading = format!("Window: {}, {}{base}", window.name, size::format(window.size));
            let _ = writeln!(page, "<h2>{}</h2>", escape(&heading));
            page.push_str("<ul>\n");
            items(&mut page, &window.history);
            page.push_str("</ul>\n");
            if !window.is_drawn_in(&self.cases) {
                figures(&mut page, &window.maps);
            }
            if let Some(statistics) = &window.statistics {
                let _ = writeln!(page, "<pre>{}</pre>", escape(&statistics.to_string()));
            }
        }
        for (heading, lines) in [("Drivers that got no memory", &self.drivers)] {
            if !lines.is_empty() {
                let _ = writeln!(page, "<h2>{heading}</h2>\n<pre>{}</pre>", escape(&lines.join("\n")));
            }
        }
        if let Some(check) = &self.check {
            let _ = writeln!(page, "<h2>The device tree</h2>\n<pre>{}</pre>", escape(&check.to_string()));
        }
        for (heading, lines) in [("Assumed", &self.assumed), ("Missing", &self.missing)] {
            if !lines.is_empty() {
                let _ = writeln!(page, "<h2>{heading}</h2>\n<ul class=\"note\">");
                items(&mut page, lines);
                page.push_str("</ul>\n");
            }
        }
        page.push_str("</body></html>\n");
        page
    }
}

fn items(page: &mut String, sentences: &[String]) {
    for sentence in sentences {
        let _ = writeln!(page, "<li>{}</li>", escape(sentence));
    }
}

fn figures(page: &mut String, maps: &[Map]) {
    for map in maps {
        let _ = writeln!(page, "<figure>{}</figure>", map.to_svg());
    }
}

/// Text between tags. Control characters, which HTML does not permit, are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push(c),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}
