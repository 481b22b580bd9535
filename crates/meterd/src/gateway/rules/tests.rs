//! Descriptors and what they meet; files and what is wrong with them.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::gateway::{Algorithm, Descriptor, Plan, Request, Unit};

fn read(text: &str) -> Result<Rules, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yaml");
    fs::write(&file, text).expect("written");
    let shown = |error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), "");
    Rules::read(&file, &Tallies::default()).map_err(shown)
}

fn rules(text: &str) -> Rules {
    read(text).unwrap_or_else(|error| panic!("{error}"))
}

/// `a=b/c=d`
fn entries(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split('/').filter_map(pair).collect()
}

/// What each descriptor of a request meets, as `limit per span`, with an `s` for a shadow.
fn met(rules: &Rules, domain: &str, descriptors: &[&str]) -> Vec<String> {
    let descriptors = descriptors.iter().map(|text| Descriptor { entries: entries(text), ..Descriptor::default() });
    let request =
        Request { domain: domain.to_owned(), descriptors: descriptors.collect(), hits: 1, ..Request::default() };
    let plan = Plan::new(rules, &Tallies::default(), &request).expect("a plan");
    let shown = plan.descriptors.iter().map(|planned| match planned.takes.first() {
        None if planned.is_unlimited => "unlimited".to_owned(),
        None => "-".to_owned(),
        Some(&place) => {
            let take = &plan.takes[place];
            let mark = if take.is_enforced { "" } else { " s" };
            format!("{}/{}{mark}", take.limit.limit, take.limit.span.as_secs())
        }
    });
    shown.collect()
}

/// Configurations as those of envoyproxy/ratelimit are written.
const LIKE_ENVOYS: &str = "
domain: messaging
descriptors:
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: { unit: day, requests_per_unit: 5 }
  - key: to_number
    rate_limit:
      unit: day
      requests_per_unit: 100
---
domain: edge
descriptors:
  - key: remote_address
    rate_limit: { unit: second, requests_per_unit: 10 }
  - key: remote_address
    value: 50.0.0.5
    rate_limit: { unit: second, requests_per_unit: 0 }
---
domain: internal
descriptors:
  - key: ldap
    rate_limit: { unlimited: true }
  - key: azure
    rate_limit: { unit: MINUTE, requests_per_unit: 100 }
  - key: allowed
---
domain: shadows
descriptors:
  - key: service
    descriptors:
      - key: user
        value: a
        rate_limit: { requests_per_unit: 10, unit: second }
        shadow_mode: true
      - key: user
        value: b
        rate_limit: { requests_per_unit: 20, unit: second }
---
domain: replacing
descriptors:
  - key: one
    value: a
    descriptors:
      - key: user
        value: u
        rate_limit: { name: specific, requests_per_unit: 5, unit: second }
  - key: two
    value: b
    descriptors:
      - key: user
        value: u
        rate_limit:
          replaces: [{ name: specific }]
          requests_per_unit: 10
          unit: second
---
domain: wild
descriptors:
  - key: path
    value: api-*
    rate_limit: { unit: hour, requests_per_unit: 20 }
  - key: path
    value: api-v2*
    rate_limit: { unit: hour, requests_per_unit: 30 }
  - key: path
    value: api-health
    rate_limit: { unlimited: true }
  - key: path
    detailed_metric: true
    rate_limit: { unit: week, requests_per_unit: 40 }
  - key: code
    value: 404
    rate_limit: { unit: month, requests_per_unit: 50 }
  - key: year
    rate_limit: { unit: year, requests_per_unit: 60 }
";

#[test]
fn configurations_of_envoys_service_mean_what_they_mean_there() {
    let rules = rules(LIKE_ENVOYS);
    let table: [(&str, &[&str], &[&str]); 22] = [
        ("messaging", &["message_type=marketing/to_number=1", "to_number=1"], &["5/86400", "100/86400"]),
        ("messaging", &["message_type=other/to_number=1"], &["-"]),
        ("messaging", &["message_type=marketing"], &["-"]),
        ("messaging", &["message_type=marketing/to_number=1/more=1"], &["-"]),
        ("messaging", &["to_number=1/to_number=1"], &["-"]),
        ("edge", &["remote_address=50.0.0.1"], &["10/1"]),
        ("edge", &["remote_address=50.0.0.5"], &["0/1"]),
        ("edge", &["remote_address=50.0.0.55"], &["10/1"]),
        ("internal", &["ldap=x", "azure=y", "allowed=z", "unknown=z"], &["unlimited", "100/60", "-", "-"]),
        ("shadows", &["service=auth/user=a"], &["10/1 s"]),
        ("shadows", &["service=auth/user=b"], &["20/1"]),
        ("shadows", &["service=auth/user=c"], &["-"]),
        ("replacing", &["one=a/user=u"], &["5/1"]),
        ("replacing", &["two=b/user=u"], &["10/1"]),
        ("replacing", &["one=a/user=u", "two=b/user=u"], &["-", "10/1"]),
        // The first wildcard of the file that fits, a whole value before any, and a key alone last.
        ("wild", &["path=api-v2"], &["20/3600"]),
        ("wild", &["path=api-health"], &["unlimited"]),
        ("wild", &["path=home"], &["40/604800"]),
        ("wild", &["code=404", "code=500"], &["50/2592000", "-"]),
        ("wild", &["year=1"], &["60/31536000"]),
        ("nothing", &["path=home"], &["-"]),
        ("Edge", &["remote_address=50.0.0.1"], &["-"]),
    ];
    for (domain, descriptors, expected) in table {
        assert_eq!(met(&rules, domain, descriptors), expected, "{domain} {descriptors:?}");
    }
}

#[test]
fn what_goes_beyond_them_is_read_as_it_is_written() {
    let rules = rules(
        "
domain: shop
descriptors:
  - key: api_key
    rate_limit: { unit: minute, requests_per_unit: 600, burst: 9 }
    overrides: { big: { requests_per_unit: 6000 }, free: { unlimited: true }, odd: { limit: 5, period: 1500ms } }
  - key: login
    rate_limit: { algorithm: window, period: 1h, limit: 3, block: 2h }
  - key: export
    in_flight: { limit: 5, ttl: 90s }
  - key: plan
    rate_limit: { algorithm: quota, unit: month, limit: 10000, anchor: 2022-07-17, offset: '+02:00' }
    in_flight: { limit: 2 }
    on_error: allow
",
    );
    let limits = |text: &str| {
        let rule = rules.domain("shop").and_then(|domain| domain.find(&entries(text))).expect("a rule").clone();
        let value = entries(text)[0].1.clone();
        let Policy(limits) = rule.policy(&value).clone();
        limits.into_iter().map(|limit| limit.as_ref().clone()).collect::<Vec<_>>()
    };
    let minute = Duration::from_secs(60);
    let gcra = |burst, count, period| Algorithm::Gcra { burst, count, period };
    assert_eq!(limits("api_key=a"), [Limit { algorithm: gcra(9, 600, minute), limit: 600, span: minute }]);
    assert_eq!(limits("api_key=big"), [Limit { algorithm: gcra(5999, 6000, minute), limit: 6000, span: minute }]);
    assert_eq!(limits("api_key=free"), []);
    let span = Duration::from_millis(1500);
    assert_eq!(limits("api_key=odd"), [Limit { algorithm: gcra(4, 5, span), limit: 5, span }]);
    let block = Some(Duration::from_secs(7200));
    let hour = Duration::from_secs(3600);
    assert_eq!(limits("login=x"), [Limit { algorithm: Algorithm::Window { block }, limit: 3, span: hour }]);
    let ttl = Duration::from_secs(90);
    assert_eq!(limits("export=x"), [Limit { algorithm: Algorithm::InFlight, limit: 5, span: ttl }]);
    let quota = &limits("plan=x")[0];
    assert!(matches!(&quota.algorithm, Algorithm::Quota { anchor: Some(date), offset: Some(offset), .. }
        if date == "2022-07-17" && offset == "+02:00"));
    assert_eq!(limits("plan=x")[1].span, minute);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_would_be_right() {
    let limit = |text: &str| format!("domain: d\ndescriptors:\n  - key: a\n    rate_limit: {text}\n");
    let table = [
        ("descriptors: []".to_owned(), "rules.yaml:1: ", "domain"),
        ("domain: ''".to_owned(), "rules.yaml:1: ", "name it"),
        ("domain: d\ndescriptors:\n  - key: ''".to_owned(), "rules.yaml:3: ", "key: api_key"),
        ("domain: d\nlimits: 3\n".to_owned(), "rules.yaml:2: ", "limits"),
        ("domain: d\n---\ndomain: d\n".to_owned(), "rules.yaml:3: ", "twice"),
        ("domain: d\ndescriptors:\n  - key: a\n  - key: a\n".to_owned(), "rules.yaml:4: ", "twice"),
        ("domain: [\n".to_owned(), "rules.yaml:", ""),
        ("domain: d\nheaders: all".to_owned(), "rules.yaml:2: ", "draft-10, draft-03, x-ratelimit or none"),
        ("domain: d\ndeadline: fast".to_owned(), "rules.yaml:2: ", "500ms"),
        (limit("{ requests_per_unit: 5 }"), "rules.yaml:4: ", "unit: minute"),
        (limit("{ unit: minute }"), "rules.yaml:4: ", "requests_per_unit is missing"),
        (limit("{ unit: decade, limit: 5 }"), "rules.yaml:4: ", "second, minute, hour"),
        (limit("{ unit: day, period: 1d, limit: 5 }"), "rules.yaml:4: ", "one of them"),
        (limit("{ unit: day, requests_per_unit: 5, limit: 5 }"), "rules.yaml:4: ", "one of them"),
        (limit("{ unit: day, limit: 5, algorithm: leaky }"), "rules.yaml:4: ", "gcra, window, log, slide or quota"),
        (limit("{ unit: day, limit: 5, block: 1h }"), "rules.yaml:4: ", "algorithm: window"),
        (limit("{ unit: minute, limit: 5, algorithm: quota }"), "rules.yaml:4: ", "hour, day, week"),
        (limit("{ unit: month, limit: 5, algorithm: quota, anchor: soon }"), "rules.yaml:4: ", "2022-07-17"),
        (limit("{ unit: hour, limit: 5, algorithm: quota, anchor: 2022-07-17 }"), "rules.yaml:4: ", "leave it out"),
        (limit("{ unit: second, limit: 4000000000 }"), "rules.yaml:4: ", "1000000000 a second"),
        (limit("{ unit: second, limit: 1000001, algorithm: log }"), "rules.yaml:4: ", "1000000 cells"),
        (limit("{ unit: second, limit: -1 }"), "rules.yaml:4: ", ""),
        (limit("{ unlimited: true, unit: day }"), "rules.yaml:4: ", "leave them out"),
        (limit("{ name: n, replaces: [{ name: n }], unit: day, limit: 5 }"), "rules.yaml:4: ", "itself"),
        (limit("{ unit: day, limit: 5 }\n    on_error: pass"), "rules.yaml:5: ", "allow or deny"),
        (limit("{ unit: day, limit: 5 }\n    value: v\n    overrides: { b: { limit: 1 } }"), "rules.yaml:6: ", "leave"),
        ("domain: d\ndeadline: 2h".to_owned(), "rules.yaml:2: ", "at most 1h"),
        (limit("{ period: 101y, limit: 5 }"), "rules.yaml:4: ", "hundred years"),
        (limit("{ unit: day, limit: 9007199254740992, algorithm: window }"), "rules.yaml:4: ", "at most 9007199254740991"),
        (limit("{ unit: day, limit: 5, algorithm: window, block: 200y }"), "rules.yaml:4: ", "hundred years"),
        (limit("{ unit: day, limit: 5 }\n    overrides: { b: { algorithm: log } }"), "rules.yaml:5: ", "numbers"),
        (
            limit("{ unit: day, limit: 5 }\n    value: a*\n    share_threshold: true\n    overrides: { ab: { limit: 1 } }"),
            "rules.yaml:7: ",
            "share_threshold",
        ),
        (
            limit("{ name: n, replaces: [{ name: m }], unit: day, limit: 5 }")
                + "\n  - key: b\n    rate_limit: { name: m, replaces: [{ name: n }], unit: day, limit: 5 }",
            "rules.yaml:",
            "replaces itself",
        ),
        ("domain: d\ndescriptors:\n  - key: a\n    in_flight: { limit: 5, ttl: 400d }".to_owned(), "rules.yaml:4: ", "366"),
        (
            "domain: d\nshard_by: user\ndescriptors:\n  - key: user\n    rate_limit: { unit: day, limit: 1 }\n  - key: a\n    rate_limit: { unit: day, limit: 1 }".to_owned(),
            "rules.yaml:6: ",
            "all or none",
        ),
    ];
    for (text, place, remedy) in table {
        let error = read(&text).expect_err(&text);
        assert!(error.starts_with(place) && error.contains(remedy), "{text}\n{error}");
    }
}

#[test]
fn a_folder_has_a_domain_in_each_file() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Rules::read(folder.path(), &Tallies::default()).is_err());
    for name in ["a.yaml", "b.yml"] {
        fs::write(folder.path().join(name), format!("domain: {name}")).expect("written");
    }
    fs::write(folder.path().join("notes.txt"), "no rules").expect("written");
    let rules = Rules::read(folder.path(), &Tallies::default()).expect("rules");
    assert!(rules.len() == 2 && rules.domain("a.yaml").is_some() && rules.domain("b.yml").is_some());
}

#[test]
fn limits_of_two_shards_are_refused_since_they_can_not_be_taken_all_or_none() {
    let rules = rules(
        "domain: d\nshard_by: user\ndescriptors:\n  - key: user\n    rate_limit: { unit: day, limit: 1 }\n    descriptors:\n      - key: path\n        rate_limit: { unit: day, limit: 1 }",
    );
    let plan = |descriptors: &[&str]| {
        let descriptors = descriptors.iter().map(|text| Descriptor { entries: entries(text), ..Descriptor::default() });
        let request = Request { domain: "d".to_owned(), descriptors: descriptors.collect(), ..Request::default() };
        Plan::new(&rules, &Tallies::default(), &request)
    };
    let keys: Vec<Vec<u8>> = plan(&["user=a/path=x", "user=a"]).expect("a plan").keys().map(<[u8]>::to_vec).collect();
    assert_eq!(keys, [&b"limit:{d/a}:gcra:user=a/path=x"[..], b"limit:{d/a}:gcra:user=a"]);
    assert!(plan(&["user=a", "user=b"]).expect_err("refused").0.contains("ask twice"));
    let own = Descriptor { entries: entries("other=x"), limit: Some((1, Unit::Day)), ..Descriptor::default() };
    let request = Request { domain: "d".to_owned(), descriptors: vec![own], ..Request::default() };
    assert!(Plan::new(&rules, &Tallies::default(), &request).is_err());
}

#[test]
fn one_key_is_taken_from_once_and_no_two_descriptors_share_one_by_accident() {
    let rules = rules(
        "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { unit: day, limit: 9 }\n  - key: s\n    value: 'x*'\n    share_threshold: true\n    rate_limit: { unit: day, limit: 9 }",
    );
    let plan = |descriptors: &[(&str, &str)]| {
        let entry = |pair: &(&str, &str)| vec![(pair.0.to_owned(), pair.1.to_owned())];
        let descriptors = descriptors.iter().map(|pair| Descriptor { entries: entry(pair), ..Descriptor::default() });
        let request =
            Request { domain: "d".to_owned(), descriptors: descriptors.collect(), hits: 2, ..Request::default() };
        Plan::new(&rules, &Tallies::default(), &request).expect("a plan")
    };
    let twice = plan(&[("a", "v"), ("a", "v"), ("a", "w")]);
    assert_eq!(twice.takes.iter().map(|take| take.quantity).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(plan(&[("s", "x1"), ("s", "x2"), ("s", "x*")]).takes.len(), 1);
    assert_eq!(plan(&[("a", "x/y=z"), ("a", "x%2Fy=z"), ("a", "}"), ("a", "é"), ("a", "")]).takes.len(), 5);
}

/// A rule of the model: its path of keys and values, empty for any.
type Line = Vec<(u8, String)>;

fn line() -> impl Strategy<Value = Line> {
    prop::collection::vec((0..3u8, "(|[ab]{1,2}|[ab]{0,2}\\*)"), 1..3)
}

/// The same as a rule is found, by trying at each level every line there is, without a tree.
fn model(lines: &[Line], asked: &[(u8, String)]) -> Option<usize> {
    let mut prefix: Line = Vec::new();
    for (key, value) in asked {
        let depth = prefix.len();
        let here: Vec<&String> = lines
            .iter()
            .filter(|line| line.len() > depth && line[..depth] == prefix[..] && line[depth].0 == *key)
            .map(|line| &line[depth].1)
            .collect();
        let exact = here.iter().find(|pattern| !pattern.is_empty() && !pattern.ends_with('*') && **pattern == value);
        let wild = here.iter().find(|pattern| pattern.strip_suffix('*').is_some_and(|start| value.starts_with(start)));
        let any = here.iter().find(|pattern| pattern.is_empty());
        prefix.push((*key, (*exact.or(wild).or(any)?).clone()));
    }
    lines.iter().position(|line| *line == prefix)
}

proptest! {
    #[test]
    fn the_tree_finds_what_a_search_without_one_finds(
        lines in prop::collection::vec(line(), 1..12),
        asked in prop::collection::vec((0..3u8, "[abc]{0,3}"), 1..3),
    ) {
        let mut unique: Vec<Line> = Vec::new();
        for line in lines {
            if !unique.contains(&line) {
                unique.push(line);
            }
        }
        let mut root = Node::default();
        for (place, line) in unique.iter().enumerate() {
            insert(&mut root, line, place);
        }
        let entries: Vec<(String, String)> = asked.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        let found = entries.iter().try_fold(&root, |node, (key, value)| node.next(key, value));
        let found = found.and_then(|node| node.rule.as_ref()).map(|rule| rule.label.parse().expect("a place"));
        prop_assert_eq!(found, model(&unique, &asked));
    }
}

/// Puts a line into a tree, which the file's form would have had it nested in.
fn insert(node: &mut Node, line: &[(u8, String)], place: usize) {
    let Some(((key, value), rest)) = line.split_first() else {
        node.rule = Some(Arc::new(rule(place)));
        return;
    };
    let values = node.children.entry(key.to_string()).or_default();
    let child = match value.strip_suffix('*') {
        _ if value.is_empty() => values.any.get_or_insert_default(),
        None => values.exact.entry(value.clone()).or_default(),
        Some(prefix) => {
            let at = values.wildcards.iter().position(|(other, _)| other == prefix).unwrap_or_else(|| {
                values.wildcards.push((prefix.to_owned(), Node::default()));
                values.wildcards.len() - 1
            });
            &mut values.wildcards[at].1
        }
    };
    insert(child, rest, place);
}

fn rule(place: usize) -> Rule {
    Rule {
        label: place.to_string().into(),
        name: None,
        replaces: Vec::new(),
        policy: Policy::default(),
        overrides: HashMap::new(),
        is_shadow: false,
        is_detailed: false,
        shared: None,
        on_error: OnError::Deny,
        tally: Arc::default(),
    }
}
