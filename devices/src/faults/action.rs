//! An action as plans, traces and reports have it: a name, and the parameter that some actions take.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};

/// The field of a plan, and of a trace, that names the action.
const NAME: &str = "action";

/// What goes wrong, as plain data. A device gets it as a value of its own type, which [`fault_point!`](crate::fault_point)
/// declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    name: Cow<'static, str>,
    parameter: Option<(Cow<'static, str>, i64)>,
}

impl Action {
    /// The action of every point that does nothing: its rule is there for its `next-state`.
    pub const NONE: Self = Self { name: Cow::Borrowed("none"), parameter: None };

    /// The action `name`, with the parameter that it takes, if it takes one.
    pub const fn new(name: &'static str, parameter: Option<(&'static str, i64)>) -> Self {
        let parameter = match parameter {
            Some((name, value)) => Some((Cow::Borrowed(name), value)),
            None => None,
        };
        Self { name: Cow::Borrowed(name), parameter }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter `name`, if this action has it and `T` holds the value.
    pub fn parameter<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let (given, value) = self.parameter.as_ref()?;
        if given == name { T::try_from(*value).ok() } else { None }
    }

    /// The name of its parameter and the value, if it has one.
    pub fn given(&self) -> Option<(&str, i64)> {
        self.parameter.as_ref().map(|(name, value)| (&**name, *value))
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(NAME, &self.name)?;
        if let Some((name, value)) = &self.parameter {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let Some(serde_json::Value::String(name)) = fields.remove(NAME) else {
            return Err(D::Error::missing_field(NAME));
        };
        // An action has at most one parameter, and the other fields are taken already.
        let parameter = fields.into_iter().find_map(|(name, value)| Some((name, value.as_i64()?)));
        Ok(Self { name: name.into(), parameter: parameter.map(|(name, value)| (name.into(), value)) })
    }
}

/// Without the parameters, whose names are in the tables of the devices.
impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": { NAME: { "type": "string", "description": "The name of the action." } },
            "required": [NAME],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_is_written_is_read_the_same() {
        let offset = Action::new("offset", Some(("bytes", -8)));
        let json = serde_json::to_string(&offset).unwrap();
        assert_eq!(json, r#"{"action":"offset","bytes":-8}"#);
        assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), offset);
        assert_eq!(serde_json::from_str::<Action>(r#"{"action":"none"}"#).unwrap(), Action::NONE);
        assert!(serde_json::from_str::<Action>(r#"{"bytes":1}"#).is_err());
        assert_eq!((offset.parameter("bytes"), offset.parameter::<i64>("bits")), (Some(-8), None));
        assert_eq!(offset.parameter::<u32>("bytes"), None);
    }
}
