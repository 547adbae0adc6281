//! The words that a plan may use: the points and actions of the tables that a parser is handed.

use super::{
    action::Action,
    table::{Point, Row, Table},
};

/// The tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary<'a>(pub(super) &'a [&'static Table]);

/// A point with a table that lists it.
pub(super) type Place = (&'static Table, &'static Point);

impl<'a> Vocabulary<'a> {
    /// All points, in the order of the tables.
    pub(super) fn all(self) -> impl Iterator<Item = Place> + 'a {
        self.0.iter().flat_map(|table| table.points.iter().map(|point| (*table, *point)))
    }

    /// The tables that have a point of this name.
    pub(super) fn places(self, name: &str) -> impl Iterator<Item = Place> {
        self.all().filter(move |(_, point)| point.name == name)
    }

    /// The table of the device `id`.
    pub(super) fn table(self, id: &str) -> Option<&'static Table> {
        self.0.iter().copied().find(|table| table.ids.contain(id))
    }

    /// The names of the points for which `is` holds, each once.
    pub(super) fn names(self, is: impl Fn(&Place) -> bool) -> Vec<&'static str> {
        distinct(self.all().filter(is).map(|(_, point)| point.name))
    }
}

/// Whether a point has an action of this name.
pub(super) fn has_action(point: &Point, name: &str) -> bool {
    name == Action::NONE.name() || point.actions.iter().any(|row| row.name == name)
}

/// The rows of this name among the points of `places`.
pub(super) fn rows(places: &[Place], name: &str) -> impl Iterator<Item = &'static Row> {
    places.iter().flat_map(|(_, point)| point.actions).filter(move |row| row.name == name)
}

/// Each of `names` once, in their order.
pub(super) fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
