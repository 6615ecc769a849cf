//! Flame graphs from `perf script`: where the time goes, as one SVG without scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::svg::escape;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 16.0;
/// Narrower frames can't be seen.
const NARROWEST: f64 = 0.4;
/// Deeper frames say little, and make the picture tall.
const DEEPEST: usize = 60;

/// One frame with all that was called from it.
#[derive(Debug, Default)]
struct Frame {
    samples: u64,
    calls: BTreeMap<String, Frame>,
}

/// The graph of `script`, the output of `perf script` of a recording with call graphs.
pub fn graph(title: &str, script: &str) -> String {
    let root = fold(script);
    let rows = root.depth().min(DEEPEST);
    let height = (rows + 2) as f64 * ROW;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' \
         font-family='system-ui,sans-serif' font-size='10'><rect width='{WIDTH}' \
         height='{height}' fill='#fff'/><text x='4' y='12' font-size='12'>{} · {} samples</text>",
        escape(title),
        root.samples
    );
    let mut at = 0.0;
    for (name, frame) in &root.calls {
        let width = frame.samples as f64 / root.samples.max(1) as f64 * WIDTH;
        frame.draw(&mut svg, name, root.samples, (at, width), 0, height);
        at += width;
    }
    svg + "</svg>\n"
}

impl Frame {
    fn depth(&self) -> usize {
        self.calls.values().map(|call| 1 + call.depth()).max().unwrap_or(0)
    }

    /// Draws this frame and what it called, callers below.
    fn draw(
        &self,
        svg: &mut String,
        name: &str,
        all: u64,
        (left, width): (f64, f64),
        row: usize,
        height: f64,
    ) {
        if width < NARROWEST || row >= DEEPEST {
            return;
        }
        let y = height - (row + 1) as f64 * ROW;
        let share = self.samples as f64 * 100.0 / all as f64;
        let room = (width / 5.6) as usize;
        let label: String =
            if room < 4 { String::new() } else { name.chars().take(room).collect() };
        let _infallible = write!(
            svg,
            "<g><title>{} · {share:.1} %</title><rect x='{left:.1}' y='{y}' width='{width:.1}' \
             height='{}' fill='{}' stroke='#fff' stroke-width='.5'/>\
             <text x='{:.1}' y='{:.1}'>{}</text></g>",
            escape(name),
            ROW - 1.0,
            colour(name),
            left + 2.0,
            y + 11.0,
            escape(&label)
        );
        let mut at = left;
        for (name, call) in &self.calls {
            let part = width * call.samples as f64 / self.samples as f64;
            call.draw(svg, name, all, (at, part), row + 1, height);
            at += part;
        }
    }
}

/// Kernel grey-blue, the engine ochre, the rest green: three colours are enough to see whose time
/// it is.
fn colour(name: &str) -> &'static str {
    let is_engine = |word: &&str| name.contains(word);
    if name.ends_with("_[k]") {
        "#b9c6d3"
    } else if ["suricata_htp", "Stream", "Detect", "Flow", "AppLayer", "Htp", "HTP", "hs_", "SC"]
        .iter()
        .any(is_engine)
    {
        "#e0c48a"
    } else {
        "#9fceb4"
    }
}

fn fold(script: &str) -> Frame {
    let mut root = Frame::default();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(comm) = lines.next().and_then(|line| line.split_whitespace().next()) else {
            continue;
        };
        let mut stack: Vec<String> = lines.filter_map(name_of).collect();
        stack.push(comm.to_owned());
        root.samples += 1;
        let mut frame = &mut root;
        for name in stack.into_iter().rev() {
            frame = frame.calls.entry(name).or_default();
            frame.samples += 1;
        }
    }
    root
}

/// `     55d1 symbol+0x12 (/path/to/object)` → `symbol`, marked if it is the kernel's.
fn name_of(line: &str) -> Option<String> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (")?;
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    let kernel = object.starts_with('[') || object.contains("kallsyms");
    Some(if kernel { format!("{symbol}_[k]") } else { symbol.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
gate 11 1.0: 1 cpu-clock:
\t  ff inner+0x1 ([kernel.kallsyms])
\t  ee outer::{{closure}}+0x2 (/bin/gate)

gate 11 1.1: 1 cpu-clock:
\t  ee outer::{{closure}}+0x9 (/bin/gate)

";

    #[test]
    fn stacks_are_folded_from_their_callers_on() {
        let root = fold(SCRIPT);
        assert_eq!(root.samples, 2);
        let outer = &root.calls["gate"].calls["outer::{{closure}}"];
        assert_eq!(outer.samples, 2);
        assert_eq!(outer.calls["inner_[k]"].samples, 1);
        assert_eq!(root.depth(), 3);
        assert!(graph("test", SCRIPT).contains("outer::{{closure}} · 100.0 %"));
    }
}
