//! Plots as inline SVG: horizontal bars, and lines over logarithmic axes.

use std::fmt::Write as _;

/// One bar: its label, value, low and high, and whether it is ours.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Who.
    pub label: String,
    /// Length.
    pub value: f64,
    /// Spread over the rounds.
    pub low: f64,
    /// Spread over the rounds.
    pub high: f64,
    /// Whether it is a program of ours.
    pub ours: bool,
    /// Whether it is a limit rather than a peer.
    pub limit: bool,
}

/// Horizontal bars with their spread, the longest as wide as the plot.
pub fn bars(unit: &str, bars: &[Bar]) -> String {
    const ROW: f64 = 22.0;
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 400.0;
    let longest = bars.iter().map(|bar| bar.high).fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value / longest * WIDTH;
    let height = ROW * bars.len() as f64 + 4.0;
    let mut svg = format!("<svg viewBox='0 0 720 {height}' role='img'>");
    for (row, bar) in bars.iter().enumerate() {
        let y = row as f64 * ROW + 3.0;
        let class = match (bar.ours, bar.limit) {
            (true, _) => "ours",
            (_, true) => "limit",
            _ => "peer",
        };
        let (middle, end) = (y + 8.0, LEFT + scale(bar.high));
        let _infallible = write!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{}</text>\
             <rect class='{class}' x='{LEFT}' y='{y}' width='{:.1}' height='16'/>\
             <line class='spread' x1='{:.1}' x2='{end:.1}' y1='{middle}' y2='{middle}'/>\
             <text x='{:.1}' y='{}'>{} {unit}</text>",
            LEFT - 8.0,
            y + 12.0,
            escape(&bar.label),
            scale(bar.value),
            LEFT + scale(bar.low),
            end + 6.0,
            y + 12.0,
            number(bar.value)
        );
    }
    svg + "</svg>"
}

/// Titled plots under each other as a file of its own, for pages that can't hold inline SVG.
pub fn stacked(style: &str, plots: &[(String, String)]) -> String {
    const TITLE: f64 = 26.0;
    let mut inner = String::new();
    let mut y = 6.0;
    for (title, plot) in plots {
        let height = height(plot);
        let placed =
            plot.replacen("<svg ", &format!("<svg y='{}' height='{height}' ", y + TITLE), 1);
        let _infallible = write!(
            inner,
            "<text x='8' y='{}' font-weight='bold'>{}</text>{placed}",
            y + 17.0,
            escape(title)
        );
        y += TITLE + height + 8.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='720' height='{y}' viewBox='0 0 720 {y}' \
         font-family='system-ui,sans-serif' font-size='12'><style>{style}</style>\
         <rect width='720' height='{y}' fill='#fff'/>{inner}</svg>\n"
    )
}

/// The height that the view box of a plot names.
fn height(plot: &str) -> f64 {
    let view = plot.split("viewBox='").nth(1).and_then(|rest| rest.split('\'').next());
    let last = view.and_then(|view| view.split(' ').next_back());
    last.and_then(|height| height.parse().ok()).unwrap_or(300.0)
}

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its points, in order.
    pub points: &'a [(f64, f64)],
}

/// Lines; `x` is logarithmic when it spans more than a factor of 20, `y` starts at 0.
pub fn lines(axes: &(String, String), lines: &[Line<'_>]) -> String {
    const COLOURS: [&str; 4] = ["#0b6e4f", "#c8553d", "#3d5a80", "#8a6d3b"];
    let (left, top, width, height) = (60.0, 14.0, 560.0, 220.0);
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let most = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::MIN_POSITIVE, f64::max);
    let (right, high) = (most(|p| p.0), most(|p| p.1) * 1.1);
    let first = all().map(|p| p.0).fold(right, f64::min);
    let logarithmic = first > 0.0 && right / first > 20.0;
    let place = |x: f64| {
        let share = if logarithmic {
            (x / first).ln() / (right / first).ln()
        } else {
            (x - first) / (right - first).max(f64::MIN_POSITIVE)
        };
        left + share * width
    };
    let rise = |y: f64| top + height - y / high * height;
    let bottom = top + height;
    let mut svg = format!(
        "<svg viewBox='0 0 720 300' role='img'><path class='axis' d='M{left} {top} V{bottom} \
         H{}'/><text x='{}' y='{}' text-anchor='middle'>{}</text><text x='4' y='11'>{}</text>",
        left + width,
        left + width / 2.0,
        bottom + 36.0,
        escape(&axes.0),
        escape(&axes.1)
    );
    for step in 0..=4 {
        let value = high * f64::from(step) / 4.0;
        let y = rise(value);
        let _infallible = write!(
            svg,
            "<line class='grid' x1='{left}' x2='{}' y1='{y:.1}' y2='{y:.1}'/>\
             <text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
            left + width,
            left - 6.0,
            y + 4.0,
            number(value)
        );
    }
    let mut marks: Vec<f64> = all().map(|p| p.0).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for x in marks {
        let _infallible = write!(
            svg,
            "<text x='{:.1}' y='{}' text-anchor='middle'>{}</text>",
            place(x),
            bottom + 16.0,
            number(x)
        );
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> =
            line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", place(*x), rise(*y))).collect();
        let _infallible =
            write!(svg, "<polyline fill='none' stroke='{colour}' points='{}'/>", path.join(" "));
        for (x, y) in line.points {
            let _infallible = write!(
                svg,
                "<circle cx='{:.1}' cy='{:.1}' r='3' fill='{colour}'/>",
                place(*x),
                rise(*y)
            );
        }
        if let Some((x, y)) = line.points.last() {
            let _infallible = write!(
                svg,
                "<text x='{:.1}' y='{:.1}' text-anchor='end' fill='{colour}'>{}</text>",
                place(*x) + 60.0,
                rise(*y) - 8.0,
                escape(line.name)
            );
        }
    }
    svg + "</svg>"
}

/// A number with as many digits as it deserves.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 10_000_000.0 {
        format!("{:.0} M", value / 1e6)
    } else if magnitude >= 10_000.0 {
        format!("{:.1} k", value / 1e3)
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude == 0.0 {
        "0".into()
    } else {
        format!("{value:.2}")
    }
}

/// Text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_matters() {
        assert_eq!(number(0.4567), "0.46");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(56_789.0), "56.8 k");
    }
}
