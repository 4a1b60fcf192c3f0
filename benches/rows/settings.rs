//! The settings that the program under test has by default.

use clap::Parser as _;
use latchkey::config::Config;

/// The settings of a server that nobody set anything of.
pub(crate) fn default() -> Config {
    #[derive(clap::Parser)]
    struct Settings {
        #[command(flatten)]
        config: Config,
    }
    Settings::parse_from(["latchkey"]).config
}
