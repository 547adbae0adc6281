//! The value of `--env`: a variable for the command of `--exec`.

use std::{env, str::FromStr};

/// A variable with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    name: String,
    value: String,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if !is_name {
            return Err(format!(
                "'{name}' is not the name of a variable; write --env NAME=VALUE, or --env NAME for the value that it has here"
            ));
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None => env::var(name)
                .map_err(|_| format!("the variable {name} is not set here; write --env {name}=VALUE"))?,
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// The shell's text that runs `command` with these variables.
pub(super) fn with_variables(variables: &[Variable], command: String) -> String {
    if variables.is_empty() {
        return command;
    }
    let words = variables.iter().map(|Variable { name, value }| {
        // Between single quotes only these end the text.
        format!(" {name}='{}'", value.replace('\'', r"'\''"))
    });
    format!("export{}\n{command}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_sees_the_values_as_they_are() {
        let values = ["", "a b", "it's", "$HOME `id` \\ \"", "two\nlines", "='"];
        let variables: Vec<Variable> =
            (0..).zip(values).map(|(number, value)| format!("V_{number}={value}").parse().unwrap()).collect();
        let command = r#"printf '%s|' "$V_0" "$V_1" "$V_2" "$V_3" "$V_4" "$V_5""#.to_owned();
        let output = Command::new("sh").arg("-c").arg(with_variables(&variables, command)).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            values.map(|value| format!("{value}|")).concat()
        );
        assert_eq!(with_variables(&[], "true".to_owned()), "true");
    }

    #[test]
    fn a_variable_without_a_value_has_the_one_of_this_process() {
        let path: Variable = "PATH".parse().unwrap();
        assert_eq!(path.value, env::var("PATH").unwrap());
        let error = "NOT_SET_ANYWHERE".parse::<Variable>().unwrap_err();
        assert_eq!(
            error,
            "the variable NOT_SET_ANYWHERE is not set here; write --env NOT_SET_ANYWHERE=VALUE"
        );
        for text in ["", "=x", "1A=x", "A-B=x", "A;id=x"] {
            assert!(
                text.parse::<Variable>().unwrap_err().contains("is not the name of a variable"),
                "{text}"
            );
        }
    }
}
