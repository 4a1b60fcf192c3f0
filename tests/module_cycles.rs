//! No module depends on itself through other modules. The test reads the source as a graph of files, and reports each cycle with its path.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{code, is_word, sources_below};

/// A module's path from the crate's root: `["store", "redb", "users"]`, or an empty path for the root itself.
type Module = Vec<String>;

fn module_of(file: &str) -> Module {
    let mut parts: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// Collects every path of a use tree: `a::{b, c::{d, self}}` gives `a::b`, `a::c::d` and `a::c`.
fn paths_of_use(tree: &str, prefix: &Module, found: &mut Vec<Module>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let head = head.split(" as ").next().unwrap_or_default();
    let mut path = prefix.clone();
    path.extend(head.split("::").map(str::trim).filter(|part| !part.is_empty() && *part != "self").map(str::to_owned));
    let Some(group) = group else { return found.push(path) };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths_of_use(&group[from..at], &path, found);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !group[from..].trim().is_empty() {
        paths_of_use(&group[from..], &path, found);
    }
}

/// Returns every path in the code as it is written, in `use` declarations and elsewhere.
fn paths_named(code: &str) -> Vec<Module> {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some(tree) = line.trim_start().trim_start_matches("pub ").strip_prefix("use ") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.ends_with(';') {
            tree.push(' ');
            tree.push_str(lines.next().expect("a declaration ends with a semicolon").trim());
        }
        paths_of_use(tree.trim_end_matches(';'), &Vec::new(), &mut found);
    }
    let part_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for (at, _) in rest.match_indices("::") {
        let start = rest[..at].rfind(|c| !part_of_path(c)).map_or(0, |before| before + 1);
        let head = rest[start..at].split("::").next().unwrap_or_default();
        if !head.is_empty() && is_word(&rest, start, head.len()) {
            let whole = rest[start..].split(|c| !part_of_path(c)).next().unwrap_or_default();
            found.push(whole.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
        }
    }
    found
}

/// Returns the module of a path that is written in `here`, or `None` if the path leads to another crate.
fn resolve(path: &[String], here: &Module, known: &BTreeSet<Module>) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut target = match first.as_str() {
        "crate" => rest.to_vec(),
        "super" => {
            let supers = path.iter().take_while(|part| *part == "super").count();
            [&here[..here.len().checked_sub(supers)?], &path[supers..]].concat()
        }
        _ => [here.as_slice(), path].concat(),
    };
    let relative = !["crate", "super"].contains(&first.as_str());
    while !known.contains(&target) {
        target.pop();
    }
    // A path without `crate` or `super` names a child module, or an item of another crate.
    (!relative || target.len() > here.len()).then_some(target)
}

struct Search {
    graph: BTreeMap<Module, BTreeSet<Module>>,
    path: Vec<Module>,
    finished: BTreeSet<Module>,
    cycles: Vec<String>,
}

impl Search {
    /// Follows every path from `module` and records those that return to a module on the same path.
    fn visit(&mut self, module: &Module) {
        if let Some(start) = self.path.iter().position(|seen| seen == module) {
            let cycle: Vec<String> = self.path[start..].iter().chain([module]).map(|module| module.join("/")).collect();
            self.cycles.push(cycle.join(" -> "));
        } else if !self.finished.contains(module) {
            self.path.push(module.clone());
            for next in self.graph[module].clone() {
                self.visit(&next);
            }
            self.path.pop();
            self.finished.insert(module.clone());
        }
    }
}

#[test]
fn no_module_depends_on_itself_through_others() {
    // A path in a visibility modifier is not a dependency.
    let visibility = regex::Regex::new(r"pub\((in [\w:]+|super|crate)\) ").unwrap();
    for dir in ["src", "benches/rows"] {
        let sources = sources_below(dir);
        let known: BTreeSet<Module> = sources.keys().map(|file| module_of(file)).chain([Vec::new()]).collect();
        let mut graph: BTreeMap<Module, BTreeSet<Module>> =
            known.iter().map(|m| (m.clone(), BTreeSet::new())).collect();
        for (file, text) in &sources {
            let here = module_of(file);
            // A test inside a file may use any module.
            let code = code(text);
            let code = code.split("#[cfg(test)]").next().unwrap_or_default();
            let named = paths_named(&visibility.replace_all(code, "pub "));
            let targets = named.iter().filter_map(|path| resolve(path, &here, &known)).filter(|target| *target != here);
            graph.entry(here.clone()).or_default().extend(targets);
        }
        let edges: usize = graph.values().map(BTreeSet::len).sum();
        assert!(edges > sources.len(), "{dir}: the modules' paths were not understood");
        let (path, finished, cycles) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut search = Search { graph, path, finished, cycles };
        for module in &known {
            search.visit(module);
        }
        assert!(search.cycles.is_empty(), "cycles of modules in {dir}:\n{}", search.cycles.join("\n"));
    }
}
