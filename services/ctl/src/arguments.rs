//! What may be typed.

use clap::{Parser, Subcommand};

use crate::{dlq, event, migrate, step, task, template};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the mesh refused, or could not be reached; `health`: the mesh is not ready;
     `template validate`: a template is not valid
  2  these arguments make no sense
  3  `task wait`: the task ended, or is blocked, in another state than complete
  4  `task wait`: the time is over, and the task is still open";

/// Asks the mesh, through its gateway.
#[derive(Debug, Parser)]
#[command(name = "tasker-ctl", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Address of the gateway.
    #[arg(
        long,
        global = true,
        env = "TASKER_GATEWAY",
        value_name = "URL",
        default_value = "http://127.0.0.1:7700",
        value_parser = gateway
    )]
    pub(crate) gateway: String,
    /// Print JSON: one object or one array; `task watch`, `task repair-all` and `event watch`: one object a
    /// line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The groups of commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a database to the schema of this version. The only command that goes to the database.
    Migrate(migrate::Migration),
    /// Register, validate and read templates.
    #[command(subcommand)]
    Template(template::Command),
    /// Submit, read and follow tasks; end and repair them.
    #[command(subcommand)]
    Task(task::Command),
    /// Read and repair the steps of a task.
    #[command(subcommand)]
    Step(step::Command),
    /// Look into tasks that cannot go on by themselves, or have passed a limit.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Hear of domain events.
    #[command(subcommand)]
    Event(event::Command),
    /// Say how the mesh is.
    Health,
}

/// Found wrong here, so that it is a mistake in the arguments and not an answer of the mesh.
fn gateway(url: &str) -> Result<String, String> {
    let scheme = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    match tasker_client::endpoint(url) {
        Ok(_) if scheme => Ok(url.to_owned()),
        _ => Err("not like http://127.0.0.1:7700".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_commands_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_can_be_typed() {
        for line in [
            "tasker-ctl migrate --database-url postgres://localhost/tasker",
            "tasker-ctl template register a.yaml b.yaml",
            "tasker-ctl template validate a.yaml",
            "tasker-ctl template list --namespace orders --name process_order",
            "tasker-ctl template get orders/process_order@1.0.0",
            "tasker-ctl task create arithmetic/linear --context - --priority -5",
            "tasker-ctl task get 01890000-0000-7000-8000-000000000000 --steps",
            "tasker-ctl task list --state complete --state error --limit 5",
            "tasker-ctl task wait 01890000-0000-7000-8000-000000000000 --timeout 2m",
            "tasker-ctl task watch 01890000-0000-7000-8000-000000000000 --cursor x",
            "tasker-ctl task cancel 01890000-0000-7000-8000-000000000000 --operator me --reason why",
            "tasker-ctl task resolve 01890000-0000-7000-8000-000000000000 --operator me",
            "tasker-ctl task give-up 01890000-0000-7000-8000-000000000000 --operator me",
            "tasker-ctl task repair 01890000-0000-7000-8000-000000000000 reset --operator me",
            "tasker-ctl task repair-all resolve --namespace orders --limit 5 --preview --operator me",
            "tasker-ctl task rerun 01890000-0000-7000-8000-000000000000 --from pay --operator me",
            "tasker-ctl step reset 01890000-0000-7000-8000-000000000000 pay --operator me",
            "tasker-ctl step resolve 01890000-0000-7000-8000-000000000000 pay --operator me",
            "tasker-ctl step complete 01890000-0000-7000-8000-000000000000 pay --result 1 --operator me",
            "tasker-ctl step complete 01890000-0000-7000-8000-000000000000 decide --create-step a --create-step b --operator me",
            "tasker-ctl step complete 01890000-0000-7000-8000-000000000000 decide --result 1 --no-branches --operator me",
            "tasker-ctl step complete 01890000-0000-7000-8000-000000000000 plan --create-batch 1 --create-batch [2] --operator me",
            "tasker-ctl step complete 01890000-0000-7000-8000-000000000000 plan --no-batches --operator me",
            "tasker-ctl step list 01890000-0000-7000-8000-000000000000",
            "tasker-ctl step get 01890000-0000-7000-8000-000000000000 square_1",
            "tasker-ctl task history 01890000-0000-7000-8000-000000000000 --step square_1",
            "tasker-ctl dlq list --reason staleness,manual --status pending",
            "tasker-ctl dlq create 01890000-0000-7000-8000-000000000000 --operator ada --reason odd",
            "tasker-ctl dlq update 01890000-0000-7000-8000-000000000000 --operator ada --status cancelled",
            "tasker-ctl dlq queue --namespace orders",
            "tasker-ctl dlq stats",
            "tasker-ctl dlq stale --only-stale",
            "tasker-ctl event watch orders.* --namespace orders",
            "tasker-ctl health --json --gateway http://[::1]:7700",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        for line in [
            "tasker-ctl health --gateway localhost",
            "tasker-ctl task create linear",
            "tasker-ctl task create a/b --priority 101",
            "tasker-ctl task list --state done",
            "tasker-ctl dlq list --reason boredom",
            "tasker-ctl task wait x --timeout soon",
            "tasker-ctl task list --limit 0",
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::ValueValidation, "{line}");
        }
    }

    #[test]
    fn a_step_is_completed_with_a_result_or_with_one_way_of_what_comes_into_being() {
        let kind = |flags: &str| {
            let line = format!("tasker-ctl step complete t s --operator me{flags}");
            parse(&line).unwrap_err().kind()
        };
        assert_eq!(kind(""), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(" --create-step a --no-branches"), ErrorKind::ArgumentConflict);
        assert_eq!(kind(" --no-batches --no-branches"), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn help_tells_the_exit_codes_and_no_password() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("4  `task wait`"), "{help}");
        let migrate = Arguments::command().find_subcommand_mut("migrate").unwrap().clone();
        let url = migrate.get_arguments().find(|it| it.get_id() == "database_url").unwrap();
        assert!(url.is_hide_env_values_set());
    }
}
