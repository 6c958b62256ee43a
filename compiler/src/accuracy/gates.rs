//! What a compressed engine must keep: gates, and the figures that they are held against.

use std::fmt;

/// Limits on how far a compressed engine may be from the exact one, as measured on calibration data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gates {
    /// Least cosine between a layer's results, over all samples together.
    pub layer_cosine: Option<f64>,
    /// Largest mean squared error of a layer's results, in units of their variance.
    pub layer_mse: Option<f64>,
    /// Least cosine between an output's results, over all samples together.
    pub out_cosine: Option<f64>,
    /// Least cosine of an item of an output's first axis, over all of them.
    pub out_worst: Option<f64>,
    /// Least share of rows of the outputs, whose largest element is at the same place.
    pub out_top1: Option<f64>,
}

/// What was measured over a set of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Least cosine of a layer.
    pub layer_cosine: f64,
    /// Largest relative mean squared error of a layer.
    pub layer_mse: f64,
    /// Least cosine of an output.
    pub out_cosine: f64,
    /// Least cosine of an item of an output's first axis.
    pub out_worst: f64,
    /// Share of rows of the outputs whose largest element is at the same place.
    pub out_top1: f64,
    /// Largest relative mean squared error of an output, over all samples.
    pub out_mse: f64,
}

impl Measured {
    /// Of equal engines.
    pub const EQUAL: Measured = Measured {
        layer_cosine: 1.0,
        layer_mse: 0.0,
        out_cosine: 1.0,
        out_worst: 1.0,
        out_top1: 1.0,
        out_mse: 0.0,
    };
}

impl Gates {
    /// Parses `layer.cosine>=0.95,layer.mse<=0.002,out.cosine>=0.99,out.worst>=0.9,out.top1>=0.99`: some of these in any order.
    ///
    /// # Errors
    /// Says what is wrong and what could be there.
    pub fn parse(text: &str) -> Result<Gates, String> {
        let mut gates = Gates::default();
        for part in text.split(',').map(str::trim) {
            gates.add(part)?;
        }
        Ok(gates)
    }

    fn add(&mut self, part: &str) -> Result<(), String> {
        let split = [">=", "<="].iter().find_map(|sign| Some((part.split_once(sign)?, *sign)));
        let Some(((name, value), sign)) = split else {
            return Err(format!("`{part}` is no gate: write for example `out.cosine>=0.99`"));
        };
        let (slot, wanted) = match name.trim() {
            "layer.cosine" => (&mut self.layer_cosine, ">="),
            "layer.mse" => (&mut self.layer_mse, "<="),
            "out.cosine" => (&mut self.out_cosine, ">="),
            "out.worst" => (&mut self.out_worst, ">="),
            "out.top1" => (&mut self.out_top1, ">="),
            other => {
                let known = "layer.cosine, layer.mse, out.cosine, out.worst, out.top1";
                return Err(format!("there is no gate `{other}`: gates are {known}"));
            }
        };
        if sign != wanted {
            return Err(format!("`{part}`: `{}` takes `{wanted}`", name.trim()));
        }
        let number = value.trim().parse::<f64>().ok().filter(|v| (0.0..=1.0).contains(v));
        let number = number.ok_or_else(|| format!("`{part}`: the limit must be a number from 0 to 1"))?;
        if slot.replace(number).is_some() {
            return Err(format!("`{}` is given twice", name.trim()));
        }
        Ok(())
    }

    /// The gates that do not hold, with their figures.
    pub fn failures(&self, measured: &Measured) -> Vec<String> {
        let all = [
            ("layer.cosine", ">=", self.layer_cosine, measured.layer_cosine),
            ("layer.mse", "<=", self.layer_mse, measured.layer_mse),
            ("out.cosine", ">=", self.out_cosine, measured.out_cosine),
            ("out.worst", ">=", self.out_worst, measured.out_worst),
            ("out.top1", ">=", self.out_top1, measured.out_top1),
        ];
        let fails = |(name, sign, limit, value): (&str, &str, Option<f64>, f64)| {
            let limit = limit?;
            // What is no number keeps no limit.
            let holds = if sign == ">=" { value >= limit } else { value <= limit };
            (!holds).then(|| format!("{name} is {value:.6}, must be {sign} {limit}"))
        };
        all.into_iter().filter_map(fails).collect()
    }

    /// Stricter gates, that leave room for data other than the calibration set: each allowed error times `share`.
    #[must_use]
    pub fn tightened(&self, share: f64) -> Gates {
        let least = |limit: f64| 1.0 - (1.0 - limit) * share;
        Gates {
            layer_cosine: self.layer_cosine.map(least),
            layer_mse: self.layer_mse.map(|limit| limit * share),
            out_cosine: self.out_cosine.map(least),
            out_worst: self.out_worst.map(least),
            out_top1: self.out_top1.map(least),
        }
    }
}

impl fmt::Display for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("layer.cosine>=", self.layer_cosine),
            ("layer.mse<=", self.layer_mse),
            ("out.cosine>=", self.out_cosine),
            ("out.worst>=", self.out_worst),
            ("out.top1>=", self.out_top1),
        ];
        let parts = all.iter().filter_map(|(name, limit)| Some(format!("{name}{}", (*limit)?)));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_written() {
        let text = "layer.cosine>=0.95,layer.mse<=0.002,out.cosine>=0.99";
        let gates = Gates::parse(text).unwrap();
        assert_eq!(gates.to_string(), text);
        assert_eq!((gates.layer_mse, gates.out_top1), (Some(0.002), None));
        assert_eq!(Gates::parse(" out.top1 >= 1 ").unwrap().out_top1, Some(1.0));
    }

    #[test]
    fn what_is_no_gate_is_refused_by_name() {
        for (text, says) in [
            ("out.cosine=0.9", "`out.cosine=0.9` is no gate"),
            ("out.cosin>=0.9", "there is no gate `out.cosin`"),
            ("out.cosine<=0.9", "takes `>=`"),
            ("layer.mse<=2", "a number from 0 to 1"),
            ("layer.mse<=nan", "a number from 0 to 1"),
            ("layer.mse<=0.1,layer.mse<=0.2", "given twice"),
            ("", "is no gate"),
        ] {
            let error = Gates::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_figure_that_is_no_number_fails() {
        let gates = Gates::parse("layer.mse<=0.5,out.cosine>=0.5").unwrap();
        assert_eq!(gates.failures(&Measured::EQUAL), Vec::<String>::new());
        let broken = Measured { layer_mse: f64::NAN, out_cosine: f64::NAN, ..Measured::EQUAL };
        assert_eq!(gates.failures(&broken).len(), 2);
        assert_eq!(gates.tightened(0.5).to_string(), "layer.mse<=0.25,out.cosine>=0.75");
    }
}
