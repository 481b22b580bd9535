//! `meterd top`: what is counted now, as `top` shows what runs.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use redis::{Value, from_redis_value};
use redis_meter_client::{Command as _, Refused};
use tokio::time::sleep;

use crate::archive::{Archive, Archiver, Options, shown};
use crate::config::Config;
use crate::connection::Redis;
use crate::log;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);
/// Readings between two looks for new meters.
const LOOK: u32 = 10;
/// Meters that are read at most.
const MOST: usize = 2000;
/// Rates that are remembered of each meter.
const HISTORY: usize = 30;
/// Refused keys that are shown.
const REFUSED: u64 = 5;

/// Shows which meters are hit most now, and which limits refuse most
#[derive(Debug, Args)]
pub struct Arguments {
    /// Meters, or patterns of their names; by default all
    #[arg(value_name = "METER-PATTERN")]
    meters: Vec<std::ffi::OsString>,
}

/// A meter, now.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: Vec<u8>,
    today: u64,
    hour: u64,
    /// Hits a second, the latest last.
    rates: Vec<f64>,
}

/// All that is shown.
#[derive(Debug, Default)]
struct View {
    meters: Vec<Seen>,
    refused: Vec<(Vec<u8>, String, u64)>,
    read_at: Option<Instant>,
    error: Option<String>,
    /// The first line of the table that is seen.
    from: usize,
}

pub(super) async fn run(arguments: Arguments, config: Config) -> Result<ExitCode, String> {
    use std::os::unix::ffi::OsStringExt;

    let mut patterns: Vec<Vec<u8>> = arguments.meters.into_iter().map(OsStringExt::into_vec).collect();
    if patterns.is_empty() {
        patterns.push(b"*".to_vec());
    }
    let redis = Redis::connect(config.redis.clone(), config.deadline);
    redis.up_within(config.deadline).await;
    let mut reader = Reader { config, redis, patterns, names: Vec::new(), readings: 0 };
    let mut view = View::default();
    if !std::io::stdout().is_terminal() {
        // Two readings make a rate.
        for pause in [EVERY, Duration::ZERO] {
            reader.read(&mut view).await;
            sleep(pause).await;
        }
        crate::say::print(format_args!("{}", plain(&view)));
        return view.error.map_or(Ok(ExitCode::SUCCESS), Err);
    }
    log::keep_off_the_terminal(true);
    let mut terminal = ratatui::init();
    let outcome = show(&mut terminal, &mut reader, &mut view).await;
    ratatui::restore();
    log::keep_off_the_terminal(false);
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn show(terminal: &mut ratatui::DefaultTerminal, reader: &mut Reader, view: &mut View) -> Result<(), String> {
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            reader.read(view).await;
            next = Instant::now() + EVERY;
        }
        terminal.draw(|frame| draw(frame, view)).map_err(|error| error.to_string())?;
        // Keys are looked for without a thread of their own.
        while event::poll(Duration::ZERO).map_err(|error| error.to_string())? {
            if is_end(&event::read().map_err(|error| error.to_string())?, view) {
                return Ok(());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Follows a key; whether it ends the program.
fn is_end(event: &Event, view: &mut View) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let last = view.meters.len().saturating_sub(1);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Down | KeyCode::Char('j') => view.from = (view.from + 1).min(last),
        KeyCode::Up | KeyCode::Char('k') => view.from = view.from.saturating_sub(1),
        KeyCode::PageDown => view.from = (view.from + 20).min(last),
        KeyCode::PageUp => view.from = view.from.saturating_sub(20),
        KeyCode::Home => view.from = 0,
        _ => {}
    }
    false
}

/// Reads what is shown.
struct Reader {
    config: Config,
    redis: Redis,
    patterns: Vec<Vec<u8>>,
    names: Vec<Vec<u8>>,
    readings: u32,
}

impl Reader {
    async fn read(&mut self, view: &mut View) {
        view.error = self.try_read(view).await.err();
    }

    async fn try_read(&mut self, view: &mut View) -> Result<(), String> {
        if self.readings.is_multiple_of(LOOK) {
            let archive = Archive::of(&self.config)?;
            let mut archiver = Archiver::new(&self.config.redis, &archive, Options::of(&self.config));
            let found = archiver.meters(&self.patterns).await.map_err(|error| error.to_string())?;
            self.names = found.into_iter().take(MOST).collect();
        }
        self.readings = self.readings.wrapping_add(1);
        let commands: Vec<_> = self.names.iter().map(|name| redis::cmd("METER.KPI").arg(name).to_owned()).collect();
        let replies = self.redis.call_all(&commands).await.map_err(|error| error.to_string())?;
        let now = Instant::now();
        let hour = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).hour().to_string();
        let mut before: HashMap<Vec<u8>, Seen> = view.meters.drain(..).map(|seen| (seen.name.clone(), seen)).collect();
        for (name, reply) in self.names.iter().zip(replies) {
            let day: HashMap<String, u64> =
                reply.ok().and_then(|reply: Value| from_redis_value(reply).ok()).unwrap_or_default();
            let count = |field: &str| day.get(field).copied().unwrap_or(0);
            let mut seen = before.remove(name).unwrap_or_default();
            let is_known = !seen.name.is_empty();
            if let (Some(last), true) = (view.read_at, is_known) {
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                let hits = count("day").saturating_sub(seen.today) as f64;
                seen.rates.push(hits / (now - last).as_secs_f64().max(0.001));
                let surplus = seen.rates.len().saturating_sub(HISTORY);
                seen.rates.drain(..surplus);
            }
            view.meters.push(Seen { name: name.clone(), today: count("day"), hour: count(&hour), rates: seen.rates });
        }
        view.meters.sort_by(|a, b| b.rate().total_cmp(&a.rate()).then(b.today.cmp(&a.today)).then(a.name.cmp(&b.name)));
        view.read_at = Some(now);
        // A user who may not see it, or a server without it, just has none.
        let refused: Result<Vec<Value>, _> = self.redis.call(&Refused::new().count(REFUSED).to_cmd()).await;
        let refused = refused.unwrap_or_default().into_iter();
        view.refused = refused.filter_map(refusal).collect();
        Ok(())
    }
}

/// `[db, key, command, refusals]`
fn refusal(entry: Value) -> Option<(Vec<u8>, String, u64)> {
    let (_, key, command, refusals): (u64, Vec<u8>, String, u64) = from_redis_value(entry).ok()?;
    Some((key, command, refusals))
}

impl Seen {
    /// Hits a second, of the last few readings: a number that people can read.
    fn rate(&self) -> f64 {
        let last = &self.rates[self.rates.len().saturating_sub(3)..];
        #[expect(clippy::cast_precision_loss, reason = "at most three")]
        let n = last.len().max(1) as f64;
        last.iter().fold(0.0, |sum, rate| sum + rate) / n
    }

    /// The last `most` rates as a line of bars, the highest at full height.
    fn spark(&self, most: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let rates = &self.rates[self.rates.len().saturating_sub(most)..];
        let highest = rates.iter().copied().fold(1.0, f64::max);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let bars = rates.iter().map(|rate| if *rate == 0.0 { ' ' } else { BARS[(rate / highest * 7.0) as usize] });
        bars.collect()
    }
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let refused = u16::try_from(view.refused.len()).unwrap_or(0);
    let refused = if refused == 0 { 0 } else { refused + 1 };
    let [head, meters, limits] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(refused)]).areas(frame.area());
    let rate = view.meters.iter().map(Seen::rate).fold(0.0, |sum, rate| sum + rate);
    let title = match &view.error {
        Some(error) => format!("meterd top · {error}"),
        None => format!("meterd top · {} meters · {rate:.0} hits/s · q ends", view.meters.len()),
    };
    frame.render_widget(Paragraph::new(Line::styled(title, Style::new().add_modifier(Modifier::BOLD))), head);
    // Names come first: on 80 columns they have 32, and the bars eight.
    let bars = meters.width.saturating_sub(80).clamp(8, 30);
    let rows = view.meters.iter().skip(view.from).take(usize::from(meters.height)).map(|seen| {
        Row::new([
            Cell::new(shown(&seen.name)),
            number(seen.today),
            number(seen.hour),
            Cell::new(Line::from(format!("{:.1}", seen.rate())).right_aligned()),
            Cell::new(seen.spark(usize::from(bars))),
        ])
    });
    let titles = [
        Cell::new("meter (UTC days)"),
        Cell::new(Line::from("today").right_aligned()),
        Cell::new(Line::from("this hour").right_aligned()),
        Cell::new(Line::from("hits/s").right_aligned()),
        Cell::new("seconds"),
    ];
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(14),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(bars),
    ];
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Table::new(rows, widths).header(Row::new(titles).style(reversed)), meters);
    let rows = view.refused.iter().map(|(key, command, refusals)| {
        Row::new([Cell::new(shown(key)), Cell::new(command.clone()), number(*refusals)])
    });
    let titles = [Cell::new("refused most"), Cell::new("by"), Cell::new(Line::from("refusals").right_aligned())];
    let widths = [Constraint::Fill(1), Constraint::Length(18), Constraint::Length(14)];
    frame.render_widget(Table::new(rows, widths).header(Row::new(titles).style(reversed)), limits);
}

fn number(n: u64) -> Cell<'static> {
    Cell::new(Line::from(super::report::grouped(u128::from(n))).right_aligned())
}

/// The same for a pipe: once, in columns.
fn plain(view: &View) -> String {
    let mut text = format!("{:>14} {:>12} {:>10}  meter\n", "today", "this hour", "hits/s");
    for seen in &view.meters {
        text.push_str(&format!("{:>14} {:>12} {:>10.1}  {}\n", seen.today, seen.hour, seen.rate(), shown(&seen.name)));
    }
    for (key, command, refusals) in &view.refused {
        text.push_str(&format!("{refusals:>14} refusals by {command}  {}\n", shown(key)));
    }
    text
}
