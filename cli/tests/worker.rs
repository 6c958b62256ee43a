//! The worker protocol over real pipes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use autoglm::error::{CliError, Exit};
use autoglm::worker::{Runner, serve};
use serde_json::Value;
use std::io::{BufRead, BufReader, BufWriter, Write, pipe};
use std::path::{Path, PathBuf};
use std::thread;

#[derive(Default)]
struct Counter {
    runs: usize,
    fail_at: Option<usize>,
    written: Vec<PathBuf>,
}

impl Runner for Counter {
    fn run(&mut self) -> Result<(), CliError> {
        self.runs += 1;
        match self.fail_at {
            Some(at) if at == self.runs => Err(CliError::new("E0600", Exit::Bug, "broke")),
            _ => Ok(()),
        }
    }

    fn write_outputs(&mut self, dir: &Path) -> Result<(), CliError> {
        self.written.push(dir.to_path_buf());
        Ok(())
    }
}

#[test]
fn every_answer_arrives_before_the_next_question() {
    let (questions, ask) = pipe().unwrap();
    let (answers, answer) = pipe().unwrap();
    let worker = thread::spawn(move || {
        let mut counter = Counter::default();
        // Buffered, so that a missing flush would block the other side for ever.
        let mut output = BufWriter::new(answer);
        serve(&mut counter, 0.25, &mut BufReader::new(questions), &mut output).map(|()| counter)
    });
    let mut ask = ask;
    let mut answers = BufReader::new(answers);
    let mut next = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let hello = next();
    assert_eq!(hello["load_s"], 0.25);
    assert!(hello["first_s"].as_f64().is_some_and(|s| s >= 0.0));
    assert_eq!(hello["rss_peak_kb"].is_u64(), cfg!(target_os = "linux"));
    for n in [5, 0, 1] {
        writeln!(ask, "{n}").unwrap();
        let durations = next();
        assert_eq!(durations.as_array().unwrap().len(), n);
        assert!(durations.as_array().unwrap().iter().all(Value::is_u64));
    }
    writeln!(ask, "w some dir/x").unwrap();
    assert_eq!(next(), serde_json::json!({}));
    writeln!(ask, "q").unwrap();
    let counter = worker.join().unwrap().unwrap();
    assert_eq!((counter.runs, counter.written), (7, vec![PathBuf::from("some dir/x")]));
}

fn serve_text(counter: &mut Counter, text: &str) -> (Result<(), CliError>, String) {
    let mut output = Vec::new();
    let result = serve(counter, 0.0, &mut text.as_bytes(), &mut output);
    (result, String::from_utf8(output).unwrap())
}

#[test]
fn the_end_of_the_input_is_a_quiet_end() {
    let (result, output) = serve_text(&mut Counter::default(), "2\r\n\n1");
    assert!(result.is_ok());
    assert_eq!(output.lines().count(), 3);
}

#[test]
fn errors_end_it() {
    for (text, code) in [("run\n", "E0902"), ("-1\n", "E0902"), ("w\n", "E0902"), ("99999999999\n", "E0902")]
    {
        let (result, output) = serve_text(&mut Counter::default(), text);
        assert_eq!((result.map_err(|e| e.code), output.lines().count()), (Err(code), 1), "{text}");
    }
    let mut breaks = Counter { fail_at: Some(3), ..Counter::default() };
    let (result, output) = serve_text(&mut breaks, "5\n");
    assert_eq!((result.map_err(|e| e.code), output.lines().count()), (Err("E0600"), 1));
    let mut at_once = Counter { fail_at: Some(1), ..Counter::default() };
    assert_eq!(serve_text(&mut at_once, "q\n").1, "");
}

#[test]
fn a_closed_reader_is_quiet() {
    let (answers, mut answer) = pipe().unwrap();
    drop(answers);
    let error = serve(&mut Counter::default(), 0.0, &mut "1\n".as_bytes(), &mut answer).unwrap_err();
    assert!(error.is_quiet());
}
