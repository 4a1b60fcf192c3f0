//! The settings that the program under test has by default.

use clap::Parser as _;
use latchkey::config::Config;

/// Returns the settings of a server that is started without any.
pub(crate) fn default() -> Config {
    #[derive(clap::Parser)]
    struct Settings {
        #[command(flatten)]
        config: Config,
    }
    Settings::parse_from(["latchkey"]).config
}
