//! Figures and their statistics: alternating rounds, medians, percentiles.

use std::time::Duration;

/// The number of rounds. In each round the subject and its baseline are measured once.
pub(crate) const ROUNDS: usize = 5;

/// The results of the rounds: the baseline's figure and the subject's figure of each.
pub(crate) struct Rounds(Vec<(f64, f64)>);

impl Rounds {
    /// Measures both in each round. Every other round begins with the other one, so that neither is always second.
    pub(crate) fn alternate(
        mut baseline: impl FnMut() -> anyhow::Result<f64>,
        mut subject: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            rounds.push(if round % 2 == 0 {
                let first = baseline()?;
                (first, subject()?)
            } else {
                let first = subject()?;
                (baseline()?, first)
            });
        }
        Ok(Self(rounds))
    }

    pub(crate) fn from(rounds: Vec<(f64, f64)>) -> Self {
        Self(rounds)
    }

    pub(crate) fn baseline(&self) -> f64 {
        median(self.0.iter().map(|(baseline, _)| *baseline).collect())
    }

    pub(crate) fn subject(&self) -> f64 {
        median(self.0.iter().map(|(_, subject)| *subject).collect())
    }

    /// Returns the median of the ratios of the rounds, subject divided by baseline.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    /// Returns the median ratio with the lowest and the highest ratio, as text.
    pub(crate) fn ratio_text(&self) -> String {
        let ratios = self.ratios();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        format!("**{:.2}** ({least:.2}–{most:.2})", self.ratio())
    }

    fn ratios(&self) -> Vec<f64> {
        self.0.iter().map(|(baseline, subject)| subject / baseline).collect()
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures.get(figures.len().saturating_sub(1) / 2), figures.get(figures.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| f64::midpoint(*low, *high))
}

/// Returns the shortest duration that `percent` of the durations do not exceed, in milliseconds.
pub(crate) fn percentile_ms(durations: &mut [Duration], percent: usize) -> f64 {
    durations.sort_unstable();
    let rank = (durations.len() * percent).div_ceil(100).saturating_sub(1);
    durations.get(rank).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
}

/// Formats a whole number with commas, and a small number that is not whole with three digits.
pub(crate) fn number(figure: f64) -> String {
    if figure < 100.0 && figure.fract() != 0.0 {
        return format!("{figure:.*}", if figure < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
