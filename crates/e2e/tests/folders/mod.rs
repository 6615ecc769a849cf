//! Which file of a crate knows which other one, read from its `use` declarations and paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, Macro, UseTree};

/// A module, by the names that lead to it from the crate's root.
pub(crate) type Module = Vec<String>;

/// What one file says.
#[derive(Default)]
struct File {
    /// Names that it brings in, and what they stand for.
    names: BTreeMap<String, Vec<String>>,
    /// All paths in it.
    paths: Vec<Vec<String>>,
}

/// The files of a crate, as modules.
pub(crate) struct Files(BTreeMap<Module, File>);

impl Files {
    /// Reads all sources under `folder`, which holds the crate's root.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(folder, &Vec::new(), &mut files);
        Self(files)
    }

    /// Of each file those that it knows. What a file's tests know is left out.
    pub(crate) fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let known = |(module, file): (&Module, &File)| {
            let ends = file.paths.iter().filter_map(|path| self.end(module, path, 0));
            (module.clone(), ends.filter(|end| end != module && !end.is_empty()).collect())
        };
        self.0.iter().map(known).collect()
    }

    /// The file that `path` leads to from `module`, names that are handed on followed to where they are
    /// from.
    fn end(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            name => match self.child(module, name) {
                Some(child) => child,
                None => {
                    // A name that was brought in from elsewhere.
                    let from = self.0[module].names.get(name).filter(|_| depth < 16)?;
                    let whole: Vec<_> = from.iter().chain(rest).cloned().collect();
                    return self.end(module, &whole, depth + 1);
                }
            },
        };
        while let Some((name, after)) = rest.split_first() {
            at = match (name.as_str(), self.child(&at, name)) {
                ("super", _) => at[..at.len().checked_sub(1)?].to_vec(),
                (_, Some(child)) => child,
                (name, None) => {
                    let handed_on = self.0[&at].names.get(name).filter(|_| depth < 16);
                    let origin = handed_on.and_then(|from| self.end(&at, from, depth + 1));
                    return Some(origin.unwrap_or(at));
                }
            };
            rest = after;
        }
        Some(at)
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let child: Module = module.iter().cloned().chain([name.to_owned()]).collect();
        self.0.contains_key(&child).then_some(child)
    }
}

/// Groups of files that know each other in a circle, where the arrows between a file and those in the
/// folder of its name count for nothing.
pub(crate) fn circles(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let counts = |from: &Module, to: &Module| !to.starts_with(from) && !from.starts_with(to);
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = next.pop() {
            for to in arrows.get(&at).into_iter().flatten().filter(|to| counts(&at, to)) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|file| (file, reach(file))).collect();
    let circle = |file: &Module| -> BTreeSet<Module> {
        let returns = |to: &&Module| reached.get(to).is_some_and(|reach| reach.contains(file));
        reached[file].iter().filter(returns).cloned().collect()
    };
    let found: BTreeSet<_> =
        arrows.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    found.into_iter().collect()
}

/// The arrows between the first names of modules.
pub(crate) fn folders(
    arrows: &BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut folders: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (from, all) in arrows.iter().filter(|(from, _)| !from.is_empty()) {
        let known = folders.entry(from[0].clone()).or_default();
        known.extend(all.iter().map(|to| to[0].clone()).filter(|to| *to != from[0]));
    }
    folders
}

fn read(folder: &Path, module: &Module, files: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner: Module = module.iter().cloned().chain([name]).collect();
            read(&path, &inner, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") && name != "tests" {
            let is_root = module.is_empty() && matches!(name.as_str(), "lib" | "main");
            let inner = (!is_root && name != "mod").then_some(name);
            let text = fs::read_to_string(&path).unwrap();
            let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            let file = files.entry(module.iter().cloned().chain(inner).collect()).or_default();
            file.visit_file(&parsed);
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl File {
    fn bring(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        let mut take = |name: String, path: Vec<String>| {
            self.paths.push(path.clone());
            self.names.insert(name, path);
        };
        match tree {
            UseTree::Path(path) => self.bring(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.bring(before, tree)),
            UseTree::Glob(_) => self.paths.push(before.to_vec()),
            UseTree::Name(name) if name.ident == "self" => {
                take(before.last().unwrap().clone(), before.to_vec());
            }
            UseTree::Name(name) => take(name.ident.to_string(), with(name.ident.to_string())),
            UseTree::Rename(rename) if rename.ident == "self" => {
                take(rename.rename.to_string(), before.to_vec());
            }
            UseTree::Rename(rename) => {
                take(rename.rename.to_string(), with(rename.ident.to_string()));
            }
        }
    }

    /// Paths in what macros are given.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                _ => {
                    self.paths.push(std::mem::take(&mut path));
                    colons = 0;
                    match token {
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(ItemFn { attrs, .. })
            | Item::Mod(ItemMod { attrs, .. })
            | Item::Use(ItemUse { attrs, .. }) => attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.bring(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}
