//! Output of a command that the user sees while it runs.

use std::io;
use std::io::Read;

use crate::progress::{Event, Observer};
use crate::terminal_text::sanitize_line;

/// Only the beginning of a longer line is shown.
const MAX_LINE_BYTES: usize = 16 * 1024;
const MAX_LINE_CHARS: usize = 4000;

/// Passes on what is read through it, and sends each line to the observer, safe to print.
pub(crate) struct Echo<'a, R> {
    output: R,
    observer: &'a (dyn Observer + 'a),
    line: Vec<u8>,
}

impl<'a, R> Echo<'a, R> {
    pub(crate) fn new(output: R, observer: &'a (dyn Observer + 'a)) -> Self {
        Self { output, observer, line: Vec::new() }
    }

    fn end_line(&mut self) {
        self.observer.event(&Event::Output(&sanitize_line(&self.line, MAX_LINE_CHARS)));
        self.line.clear();
    }
}

impl<R: Read> Read for Echo<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        for byte in &buffer[..count] {
            match byte {
                b'\n' => self.end_line(),
                // A progress meter overwrites its own line. Only the last version is shown.
                b'\r' => self.line.clear(),
                byte if self.line.len() < MAX_LINE_BYTES => self.line.push(*byte),
                _ => {}
            }
        }
        if count == 0 && !self.line.is_empty() {
            self.end_line();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Observer for Lines {
        fn event(&self, event: &Event<'_>) {
            if let Event::Output(line) = event {
                self.0.lock().unwrap().push((*line).to_owned());
            }
        }
    }

    #[test]
    fn each_line_is_told_once_and_safe_to_print() {
        let lines = Lines::default();
        let mut read = Vec::new();
        let output = &b"gcc -c a.c\n10%\r20%\rdone\n\x1b]0;title\x07red\n\nno end"[..];
        Echo::new(output, &lines).read_to_end(&mut read).unwrap();
        assert_eq!(read, output);
        let lines = lines.0.into_inner().unwrap();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[4].as_str()), ("gcc -c a.c", "done", "no end"));
        assert!(!lines[2].contains('\x1b'), "{lines:?}");
    }
}
