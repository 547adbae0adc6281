//! Mistakes in the command line: each becomes one sentence, with the nearest right name.

use std::{error::Error as _, num::ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The mistake that clap found, in one sentence.
pub(super) fn sentence(error: &clap::Error) -> String {
    let list = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let text = |kind| list(kind).join(", ");
    // Without the placeholder of its value: `--cma <SPEC>` is `--cma`.
    let name = |kind| text(kind).split(" <").next().unwrap_or_default().to_owned();
    let arg = name(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    let nearest = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let nearest = nearest.into_iter().flat_map(list).next();
    let nearest = nearest.map(|nearest| format!("; did you mean {nearest}?"));
    let or_help =
        || nearest.clone().unwrap_or_else(|| "; `minivmm --help` lists all options and commands".to_owned());
    match error.kind() {
        ErrorKind::UnknownArgument if arg.starts_with('-') => format!("unknown option '{arg}'{}", or_help()),
        ErrorKind::UnknownArgument => format!("unexpected argument '{arg}'{}", or_help()),
        ErrorKind::InvalidSubcommand => {
            format!("unknown command '{}'{}", text(ContextKind::InvalidSubcommand), or_help())
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            format!(
                "{} needs a value{}",
                text(ContextKind::InvalidArg),
                one_of(&list(ContextKind::ValidValue))
            )
        }
        ErrorKind::InvalidValue => {
            let valid = one_of(&list(ContextKind::ValidValue));
            format!("{arg} cannot be '{value}'{valid}{}", nearest.unwrap_or_default())
        }
        ErrorKind::ValueValidation => match error.source() {
            Some(source) if source.is::<ParseIntError>() => {
                format!("{arg} must be a whole number, not '{value}'")
            }
            // Most sentences of ours quote the value.
            Some(source) if source.to_string().contains(&value) => format!("{arg}: {source}"),
            Some(source) => format!("{arg} '{value}': {source}"),
            None => format!("{arg} cannot be '{value}'"),
        },
        ErrorKind::ArgumentConflict => {
            let prior = name(ContextKind::PriorArg);
            if arg.is_empty() {
                let command = text(ContextKind::InvalidSubcommand);
                format!("the command {command} must come before the options; write `minivmm {command}` first")
            } else if prior == arg {
                format!("{arg} is given more than once; give it once")
            } else {
                format!("{arg} cannot be used with {prior}; omit one of them")
            }
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{} is missing, and the other arguments need it", text(ContextKind::InvalidArg))
        }
        ErrorKind::MissingSubcommand => {
            let command = text(ContextKind::InvalidSubcommand);
            format!("{command} needs a command{}", one_of(&list(ContextKind::ValidSubcommand)))
        }
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// The clause that names the valid values, if there are some.
fn one_of(values: &[String]) -> String {
    match values {
        [] => String::new(),
        [value] => format!("; it must be {value}"),
        [values @ .., last] => format!("; it must be {} or {last}", values.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command, builder::PossibleValuesParser, value_parser};

    use super::*;

    fn option(name: &'static str, value: &'static str) -> Arg {
        Arg::new(name).long(name).value_name(value)
    }

    fn command() -> Command {
        let no_size = |text: &str| Err::<u8, _>(format!("\"{text}\" is not a size"));
        Command::new("minivmm")
            .args_conflicts_with_subcommands(true)
            .arg(option("cpus", "N").value_parser(value_parser!(u8)))
            .arg(option("kernel", "FILE").conflicts_with("cpus"))
            .arg(option("out", "DIR").requires("cpus"))
            .arg(option("mode", "MODE").value_parser(PossibleValuesParser::new(["dt", "cmdline", "both"])))
            .arg(option("size", "SIZE").value_parser(no_size))
            .subcommand(Command::new("check"))
            .subcommand(Command::new("model").arg(Arg::new("script").value_name("SCRIPT").required(true)))
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (words, expected) in [
            ("--cpu 2", "unknown option '--cpu'; did you mean --cpus?"),
            ("--zzzzz", "unknown option '--zzzzz'; `minivmm --help` lists all options and commands"),
            ("chek", "unknown command 'chek'; did you mean check?"),
            ("check x", "unexpected argument 'x'; `minivmm --help` lists all options and commands"),
            ("--cpus", "--cpus <N> needs a value"),
            ("--cpus two", "--cpus must be a whole number, not 'two'"),
            ("--cpus 300", "--cpus: 300 is not in 0..=255"),
            ("--size 1Q", "--size: \"1Q\" is not a size"),
            (
                "--mode cmdlin",
                "--mode cannot be 'cmdlin'; it must be dt, cmdline or both; did you mean cmdline?",
            ),
            ("--mode", "--mode <MODE> needs a value; it must be dt, cmdline or both"),
            ("--cpus 1 --kernel f", "--cpus cannot be used with --kernel; omit one of them"),
            ("--cpus 1 --cpus 2", "--cpus is given more than once; give it once"),
            ("--out x", "--cpus <N> is missing, and the other arguments need it"),
            ("model", "<SCRIPT> is missing, and the other arguments need it"),
        ] {
            let words = ["minivmm"].into_iter().chain(words.split(' '));
            let error = command().try_get_matches_from(words.clone()).unwrap_err();
            assert_eq!(sentence(&error), expected, "{:?}", words.collect::<Vec<_>>());
        }
    }
}
