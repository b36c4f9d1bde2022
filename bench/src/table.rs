//! Markdown tables whose columns line up for who reads them in a terminal.

/// Renders the rows below the header.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from("|");
        for (cell, width) in cells.zip(&widths) {
            let fill = " ".repeat(width - cell.chars().count());
            text.extend([" ", cell, &fill, " |"]);
        }
        text.push('\n');
        text
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(&mut header.iter().copied());
    text.push_str(&line(&mut rule.iter().map(String::as_str)));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// `12345.6` as `12,346`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let numbers = [0.4, 999.0, 1000.0, 34_567.8, 1_234_567.0].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "34,568", "1,234,567"]);
    }

    #[test]
    fn columns_line_up() {
        let text = markdown(&["a", "bb"], &[vec!["äöü".into(), "1".into()]]);
        assert_eq!(text, "| a   | bb |\n| --- | -- |\n| äöü | 1  |\n");
    }
}
