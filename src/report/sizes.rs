//! Sizes and times in words, and what is largest.

use crate::portage::vdb::Package;
use crate::report::facts::{Facts, LayerSize, StageFacts};
use crate::report::html::Html;

/// So many packages are shown of a stage; the others as one line.
const MOST_PACKAGES: usize = 25;
const MOST_LAYERS: usize = 50;

/// For people: `512 B`, `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// How much larger or smaller: `+1.5 MiB`, `−512 B`.
pub(super) fn difference(before: u64, now: u64) -> String {
    match now.checked_sub(before) {
        Some(0) => "no difference".to_owned(),
        Some(more) => format!("+{}", bytes(more)),
        None => format!("−{}", bytes(before - now)),
    }
}

/// `0.4 s`, `12.3 s`, `3 min 20 s`, `1 h 02 min`.
pub(super) fn duration(millis: i64) -> String {
    let millis = millis.max(0);
    let whole = (millis + 500) / 1000;
    match whole {
        0..60 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The section about what is largest.
pub(super) fn section(facts: &Facts) -> Html {
    let mut out = Html::new();
    let stages: Vec<&StageFacts> = facts.stages.iter().filter(|stage| !stage.packages.is_empty()).collect();
    if facts.layers.is_empty() && stages.is_empty() {
        return out;
    }
    out.raw("<section id=\"sizes\"><h2>Sizes</h2>");
    if !facts.layers.is_empty() {
        layers(&mut out, &facts.layers);
    }
    for (at, stage) in stages.iter().enumerate() {
        packages(&mut out, stage, at == 0);
    }
    out.raw("</section>");
    out
}

fn layers(out: &mut Html, layers: &[LayerSize]) {
    let all: u64 = layers.iter().map(|layer| layer.bytes).sum();
    out.raw("<details class=\"card\" id=\"layers\" open><summary>Layers <span class=\"soft\">");
    out.text(&count(layers.len(), "layer")).raw(", ").text(&bytes(all)).raw("</span></summary><div class=\"scroll\"><table>");
    out.raw("<thead><tr><th>Layer</th><th class=\"num\">Size</th><th class=\"bars\"></th></tr></thead><tbody>");
    let largest = layers.first().map_or(1, |layer| layer.bytes.max(1));
    for layer in layers.iter().take(MOST_LAYERS) {
        out.raw("<tr><td><code>").text(&layer.of).raw("</code>");
        if layer.is_new {
            out.raw(" <span class=\"tag new\">new</span>");
        }
        out.raw("</td><td class=\"num\">").text(&bytes(layer.bytes)).raw("</td><td class=\"bars\">");
        bar(out, layer.bytes, largest);
        out.raw("</td></tr>");
    }
    out.raw("</tbody></table></div></details>");
}

fn packages(out: &mut Html, stage: &StageFacts, open: bool) {
    let size = |package: &Package| package.size_bytes.unwrap_or_default();
    let all: u64 = stage.packages.iter().map(size).sum();
    out.raw(if open { "<details class=\"card packages\" open>" } else { "<details class=\"card packages\">" });
    out.raw("<summary>Packages of <code>").text(&stage.name).raw("</code> <span class=\"soft\">");
    out.text(&count(stage.packages.len(), "package")).raw(", ").text(&bytes(all)).raw(" installed</span></summary>");
    out.raw("<div class=\"scroll\"><table><thead><tr><th>Package</th><th class=\"num\">Size</th><th class=\"bars\"></th></tr></thead><tbody>");
    let largest = stage.packages.first().map_or(1, size).max(1);
    for package in stage.packages.iter().take(MOST_PACKAGES) {
        out.raw("<tr><td><code>").text(&package.cpv).raw("</code></td><td class=\"num\">").text(&bytes(size(package)));
        out.raw("</td><td class=\"bars\">");
        bar(out, size(package), largest);
        out.raw("</td></tr>");
    }
    let rest = stage.packages.get(MOST_PACKAGES..).unwrap_or_default();
    if !rest.is_empty() {
        out.raw("<tr class=\"soft\"><td>").text(&count(rest.len(), "smaller package")).raw("</td><td class=\"num\">");
        out.text(&bytes(rest.iter().map(size).sum())).raw("</td><td class=\"bars\"></td></tr>");
    }
    out.raw("</tbody></table></div></details>");
}

#[expect(clippy::cast_precision_loss, reason = "the length of a bar")]
fn bar(out: &mut Html, bytes: u64, largest: u64) {
    out.raw("<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"").percent(bytes as f64 / largest as f64);
    out.raw("\" height=\"100%\" rx=\"3\"/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_for_people() {
        for (size, text) in [(0, "0 B"), (1023, "1023 B"), (1_572_864, "1.5 MiB"), (u64::MAX, "16384.0 PiB")] {
            assert_eq!(bytes(size), text);
        }
        for (before, now, text) in [(1, 1, "no difference"), (0, 2048, "+2.0 KiB"), (2048, 0, "−2.0 KiB")] {
            assert_eq!(difference(before, now), text);
        }
        for (millis, text) in
            [(-5, "0.0 s"), (449, "0.4 s"), (59_400, "59.4 s"), (200_000, "3 min 20 s"), (3_725_000, "1 h 02 min")]
        {
            assert_eq!(duration(millis), text);
        }
    }
}
