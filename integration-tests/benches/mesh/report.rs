//! The figures, for people and for programs.

/// Figures in the order they were measured.
pub struct Report(Vec<(String, f64)>);

impl Report {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, name: &str, figure: f64) {
        eprintln!("{name}: {figure:.3}");
        self.0.push((name.to_owned(), figure));
    }

    pub fn print(&self) {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, figure) in &self.0 {
            println!("{name:width$}  {figure:>12.3}");
        }
    }

    pub fn json(&self) -> String {
        let map: serde_json::Map<String, serde_json::Value> =
            self.0.iter().map(|(name, figure)| (name.clone(), (*figure).into())).collect();
        serde_json::Value::Object(map).to_string() + "\n"
    }
}
