//! Figures in columns.

use crate::trials::Measure;

/// Rows of cells, the first of which is text and the others figures.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The columns, two spaces apart: the first to the left, the others to the right, and what comes after
    /// `aligned` columns as it is.
    pub fn text(&self, aligned: usize) -> String {
        let wide = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..aligned).map(wide).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| match widths.get(column) {
                Some(width) if column == 0 => format!("{cell:<width$}"),
                Some(width) => format!("{cell:>width$}"),
                None => cell.clone(),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The heading of [`measure`].
pub fn heading() -> [String; 5] {
    ["", "mean", "error", "p99", "theory"].map(str::to_owned)
}

/// A row about a measure; nothing without one.
pub fn measure(table: &mut Table, name: &str, measure: Option<&Measure>) {
    let Some(measure) = measure else { return };
    let theory = measure.theory;
    table.row([
        name.to_owned(),
        figure(measure.mean),
        measure.error.map_or_else(|| "-".to_owned(), figure),
        figure(measure.p99),
        theory.map_or_else(|| "-".to_owned(), |theory| figure(theory.value)),
        theory.map_or_else(String::new, |theory| theory.by.to_owned()),
    ]);
}

/// The mean, or a dash.
pub fn mean(measure: Option<&Measure>) -> String {
    measure.map_or_else(|| "-".to_owned(), |measure| figure(measure.mean))
}

/// What theory says, or a dash.
pub fn theory(measure: Option<&Measure>) -> String {
    let theory = measure.and_then(|measure| measure.theory);
    theory.map_or_else(|| "-".to_owned(), |theory| figure(theory.value))
}

/// A number with about four digits.
pub fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_about_four_digits() {
        let shown = [0.0, 0.000_123, 0.0123, 1.5, 16.863, 123.45, 98_765.4].map(figure);
        assert_eq!(shown, ["0", "1.23e-4", "0.0123", "1.5000", "16.86", "123.5", "98765"]);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::default();
        table.row(["a", "1"].map(str::to_owned));
        table.row(["long", "1000", "as it is"].map(str::to_owned));
        assert_eq!(table.text(2), "a        1\nlong  1000  as it is\n");
    }
}
