//! The settings as a Markdown table, for the documentation.
//!
//! Made from what clap knows, so that it cannot say anything else than `--help`. The default is what the help
//! text ends with, `[default: x]`.

use clap::{Arg, Command};

/// Which settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    /// The program's own.
    Own,
    /// Those that every program has.
    Common,
}

/// The heading that all common options stand under.
const COMMON: &str = "Common options";

/// Makes the table.
pub(crate) fn markdown(command: &Command, which: Which) -> String {
    let mut table = "| flag | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    let is_common = |argument: &Arg| argument.get_help_heading() == Some(COMMON);
    for argument in command.get_arguments() {
        if is_common(argument) == (which == Which::Common) {
            row(&mut table, "", argument);
        }
    }
    if which == Which::Own {
        for subcommand in command.get_subcommands() {
            for argument in subcommand.get_arguments() {
                row(&mut table, subcommand.get_name(), argument);
            }
        }
    }
    table
}

fn row(table: &mut String, subcommand: &str, argument: &Arg) {
    let generated = ["help", "version"].contains(&argument.get_id().as_str());
    let Some(flag) = argument
        .get_long()
        .filter(|_| !argument.is_hide_set() && !generated)
    else {
        return;
    };
    let mut shown = format!("{subcommand} --{flag}").trim_start().to_owned();
    if argument.get_action().takes_values() {
        for name in argument.get_value_names().unwrap_or_default() {
            shown.push(' ');
            shown.push_str(name);
        }
    }
    let variable = argument.get_env().map(|name| code(&name.to_string_lossy()));
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (meaning, default) = split_default(&help);
    let cells = [
        code(&shown),
        variable.unwrap_or_default(),
        cell(default),
        cell(meaning),
    ];
    table.extend(["| ", &cells.join(" | "), " |\n"]);
}

/// Takes `[default: x]` off the end of a help text.
fn split_default(help: &str) -> (&str, &str) {
    help.trim()
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once("[default: "))
        .map_or((help.trim(), ""), |(meaning, default)| {
            (meaning.trim_end(), default)
        })
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// Keeps a text within its cell.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ").replace('|', "\\|");
    if line.contains('`') {
        return line;
    }
    line.replace('<', "&lt;").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_help_ends_with() {
        assert_eq!(
            split_default("Where to listen [default: 127.0.0.1:1883]"),
            ("Where to listen", "127.0.0.1:1883")
        );
        assert_eq!(split_default("Nothing more"), ("Nothing more", ""));
        assert_eq!(split_default("a [b]"), ("a [b]", ""));
    }

    #[test]
    fn a_cell_stays_one_cell() {
        assert_eq!(cell("a | b\n c*"), "a \\| b c\\*");
        assert_eq!(cell("`a*b` | `c`"), "`a*b` \\| `c`");
    }
}
