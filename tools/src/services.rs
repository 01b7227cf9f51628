//! Which process each service of a topology is, as `tools/local` writes it down.

use std::error::Error;
use std::fs;
use std::path::Path;

/// What `services.json` says.
pub struct Description(serde_json::Value);

impl Description {
    /// That of the topology in this directory.
    ///
    /// # Errors
    ///
    /// There is none, or it is no JSON.
    pub fn read(directory: &Path) -> Result<Description, Box<dyn Error>> {
        let text = fs::read_to_string(directory.join("services.json"))?;
        Ok(Description(serde_json::from_str(&text)?))
    }

    /// The process of this service.
    ///
    /// # Errors
    ///
    /// There is no such service.
    pub fn pid(&self, name: &str) -> Result<u32, Box<dyn Error>> {
        let pid = self.0["services"][name]["pid"].as_u64();
        Ok(u32::try_from(pid.ok_or_else(|| format!("services.json: expected a service {name}"))?)?)
    }
}
