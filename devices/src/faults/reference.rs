//! The manual of plans: a text, and the tables of all devices in Markdown.

use std::fmt::Write as _;

use super::table::{Ids, Parameter, Point, Table};

/// The manual for a machine whose devices have these tables.
pub fn reference(tables: &[&'static Table]) -> String {
    let mut out = String::from(
        "# Fault injection\n\n\
         Generated from `devices/src/faults/plan.md` and the fault tables of the devices. A test compares this file with them, and \
         says how to regenerate it.\n\n",
    );
    out += include_str!("plan.md");
    let all: Vec<&Point> = tables.iter().flat_map(|table| table.points).copied().collect();
    let is_shared = |point: &&Point| all.iter().filter(|other| is_same(other, point)).count() > 1;
    for table in tables {
        let (shared, own): (Vec<&Point>, Vec<&Point>) = table.points.iter().copied().partition(is_shared);
        let ids = match table.ids {
            Ids::Windows => String::new(),
            ids => ids.listed().map_or(String::new(), |ids| format!(" ({ids})")),
        };
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## {}{ids}\n", table.title);
        if !shared.is_empty() {
            let names: Vec<String> = shared.iter().map(|point| format!("`{}`", point.name)).collect();
            let _ = write!(out, "\nPoints that it shares with other devices: {}.\n", names.join(", "));
        }
        points(&mut out, &own);
    }
    let mut shared: Vec<&Point> = Vec::new();
    for point in all.iter().copied().filter(is_shared) {
        if !shared.iter().any(|other| is_same(other, point)) {
            shared.push(point);
        }
    }
    if !shared.is_empty() {
        out += "\n## Shared points\n";
        points(&mut out, &shared);
    }
    out
}

/// Whether two devices list the same point. The points of two devices may share a name.
fn is_same(one: &Point, other: &Point) -> bool {
    one.name == other.name && one.meaning == other.meaning
}

fn points(out: &mut String, points: &[&Point]) {
    if points.is_empty() {
        return;
    }
    *out += "\n| on | an event is |\n|---|---|\n";
    for point in points {
        let _ = writeln!(out, "| `{}` | {} |", point.name, point.meaning.trim());
    }
    *out += "\n| on | action | parameter | effect |\n|---|---|---|---|\n";
    for point in points {
        for row in point.actions {
            let parameter = row.parameter.as_ref().map_or(String::new(), shown);
            let _ =
                writeln!(out, "| `{}` | `{}` | {parameter} | {} |", point.name, row.name, row.meaning.trim());
        }
    }
}

/// A parameter with the values that it takes.
fn shown(parameter: &Parameter) -> String {
    let (least, most) = (*parameter.permitted.start(), *parameter.permitted.end());
    let range = if most >= i64::from(u32::MAX) && least >= 0 {
        format!("at least {least}")
    } else {
        format!("{least} to {most}")
    };
    format!("`{}`, {range}", parameter.name)
}
