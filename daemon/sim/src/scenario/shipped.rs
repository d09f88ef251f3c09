//! The scenarios that come with the program.

use std::path::Path;

use super::{Scenario, ScenarioError};

/// Name and text of each.
pub const SHIPPED: [(&str, &str); 7] = [
    ("published", include_str!("../../scenarios/published.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("hour-70", include_str!("../../scenarios/hour-70.toml")),
    ("hour-90", include_str!("../../scenarios/hour-90.toml")),
    ("hour-110", include_str!("../../scenarios/hour-110.toml")),
    ("faults", include_str!("../../scenarios/faults.toml")),
    ("reflecting", include_str!("../../scenarios/reflecting.toml")),
];

/// The longest scenario file, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The shipped scenario of that name, or else the one in that file.
///
/// # Errors
/// [`ScenarioError::Read`] if there is neither, else what [`Scenario::parse`] says.
pub fn load(name_or_path: &Path) -> Result<Scenario, ScenarioError> {
    if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| Path::new(name) == name_or_path) {
        return Scenario::parse(text, name);
    }
    let read = |source| ScenarioError::Read { path: name_or_path.to_owned(), source };
    let length = std::fs::metadata(name_or_path).map_err(read)?.len();
    if length > FILE_BYTES {
        let too_long = format!("{length} bytes, a scenario has at most {FILE_BYTES}");
        return Err(read(std::io::Error::new(std::io::ErrorKind::FileTooLarge, too_long)));
    }
    let text = std::fs::read_to_string(name_or_path).map_err(read)?;
    Scenario::parse(&text, &name_or_path.display().to_string())
}

pub(super) fn names() -> String {
    SHIPPED.map(|(name, _)| name).join(", ")
}
