//! The table of figures and what belongs beside it.

use std::fmt;

use crate::cpu::Use;
use crate::load::Tally;
use crate::table::{grouped, markdown};

/// Collects rows and notes; displays as Markdown.
#[derive(Debug)]
pub struct Report {
    machine: String,
    rows: Vec<Vec<String>>,
    cpu: Vec<Vec<String>>,
    notes: Vec<String>,
}

const HEADER: [&str; 6] = ["figure", "median", "min–max", "÷ echo", "goal", "reached"];

impl Report {
    pub fn new(machine: String) -> Self {
        Self {
            machine,
            rows: Vec::new(),
            cpu: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure that has no goal.
    pub fn plain(&mut self, name: String, value: f64) {
        self.row(name, &[value], None, None);
    }

    pub fn several(&mut self, name: String, values: &[f64]) {
        self.row(name, values, None, None);
    }

    /// A figure whose median must not exceed the goal.
    pub fn at_most(&mut self, name: String, values: &[f64], goal: f64) {
        let reached = median(values) <= goal;
        self.row(
            name,
            values,
            None,
            Some((format!("≤ {}", number(goal)), reached)),
        );
    }

    /// A figure whose median must reach the goal.
    pub fn at_least(&mut self, name: String, values: &[f64], goal: f64) {
        let reached = median(values) >= goal;
        self.row(
            name,
            values,
            None,
            Some((format!("≥ {}", number(goal)), reached)),
        );
    }

    /// A rate with what the echo server made of the same load just before each run.
    pub fn against_echo(&mut self, name: String, rates: &[f64], echoes: &[f64], goal: f64) {
        let reached = median(rates) >= goal;
        let ratios: Vec<f64> = rates
            .iter()
            .zip(echoes)
            .map(|(rate, echo)| rate / echo)
            .collect();
        let goal = (format!("≥ {}", number(goal)), reached);
        self.row(name, rates, Some(median(&ratios)), Some(goal));
    }

    fn row(
        &mut self,
        name: String,
        values: &[f64],
        ratio: Option<f64>,
        goal: Option<(String, bool)>,
    ) {
        let (least, most) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), value| {
                (least.min(*value), most.max(*value))
            });
        let range = if values.len() > 1 {
            format!("{}–{}", number(least), number(most))
        } else {
            String::new()
        };
        let (goal, reached) = goal.unwrap_or_default();
        let reached = match (goal.is_empty(), reached) {
            (true, _) => "",
            (false, true) => "yes",
            (false, false) => "no",
        };
        let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        eprintln!("  {name}: {} ({range}) {ratio}", number(median(values)));
        self.rows.push(vec![
            name,
            number(median(values)),
            range,
            ratio,
            goal,
            reached.to_owned(),
        ]);
    }

    /// Where the processors' time went in the last run of a figure.
    pub fn cpu(&mut self, name: &str, used: &Use) {
        let cells = used.iter().map(|(_, cores)| format!("{cores:.2}"));
        self.cpu
            .push([name.to_owned()].into_iter().chain(cells).collect());
    }

    pub fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    /// Notes every answer that was not as wanted.
    pub fn trouble(&mut self, name: &str, tally: &Tally, wanted: u16) {
        if let Some(trouble) = tally.trouble(wanted) {
            self.note(format!("{name}: {trouble}"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.machine, markdown(&HEADER, &self.rows))?;
        if !self.cpu.is_empty() {
            let header = [
                "cores used",
                "api",
                "mailer",
                "PostgreSQL",
                "RabbitMQ",
                "sink",
                "echo",
                "load",
                "others",
            ];
            writeln!(f, "{}", markdown(&header, &self.cpu))?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        Ok(())
    }
}

/// The middle value; of an even count, the lower of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0.0)
}

/// With as many decimals as say something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => grouped(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let medians = [median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])];
        assert_eq!(medians.map(number), ["2.00", "1.00", "0.00"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [12_345.6, 40.0, 0.789].map(number),
            ["12,346", "40.0", "0.79"]
        );
    }
}
