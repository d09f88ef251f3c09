//! Where the daemon's metrics can be read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of the socket for metrics, beside the one for clients.
const SOCKET: &str = "metrics.sock";

/// Where the daemon's metrics can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// The socket; empty for none. Without the key it is `metrics.sock` beside the socket for clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl MetricsConfig {
    /// The socket, given that for clients; `None` if there is to be none.
    pub fn socket(&self, clients: &Path) -> Option<PathBuf> {
        let socket = self.socket.clone().unwrap_or_else(|| clients.with_file_name(SOCKET));
        Some(socket).filter(|path| !path.as_os_str().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_beside_the_socket_or_where_they_are_wanted_or_nowhere() {
        let at = |text: &str| {
            let config: MetricsConfig = toml::from_str(text).expect("valid");
            config.socket(Path::new("/run/user/7/gpusched/gpusched.sock"))
        };
        assert_eq!(at(""), Some("/run/user/7/gpusched/metrics.sock".into()));
        assert_eq!(at("socket = '/x/y'"), Some("/x/y".into()));
        assert_eq!(at("socket = ''"), None);
        assert_eq!(toml::to_string(&MetricsConfig::default()).expect("plain"), "");
    }
}
