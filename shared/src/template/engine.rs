//! Compiles a template's texts, and renders them.

use super::{
    Content, Errors, Limits, Rendered, Variant, check, locale, markdown,
    slots::{self, Slots},
    values::{self, pointer},
};
use crate::fields::FieldError;
use css_inline::CSSInliner;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value, value::Serde};
use serde_json::Map;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// Steps that one text may take, so that no loop goes on for ever.
const FUEL: u64 = 100_000;
/// Turns through a template whose HTML is kept, and how long that may be: long lists seldom come twice.
const KEPT: usize = 64;
const LONGEST_KEPT: usize = 64 * 1024;
const LAYOUT: &str = "layout";
const OWN_LAYOUT: &str = include_str!("layout.html");
/// Stands in a layout for what it goes around.
const INSIDE: &str = "wrncontentz";

/// A version of a template, ready to be rendered; for any number of threads.
#[derive(Debug)]
pub struct Compiled {
    content: Content,
    engine: Environment<'static>,
    inliner: CSSInliner<'static>,
    made: Mutex<HashMap<Turn, Arc<str>>>,
}

/// Equal where all but the values is equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Turn {
    inside: String,
    around: Option<String>,
}

impl Compiled {
    /// Checks the whole content.
    pub fn new(content: Content, limits: Limits) -> Result<Self, Errors> {
        let mut errors = check::check(&content, limits);
        let mut compiled = Self {
            engine: engine(),
            inliner: CSSInliner::options().keep_at_rules(true).build(),
            made: Mutex::default(),
            content,
        };
        compiled.compile(&mut errors);
        if errors.is_empty() {
            compiled.try_examples(&mut errors);
        }
        if errors.is_empty() {
            Ok(compiled)
        } else {
            Err(errors)
        }
    }

    pub fn content(&self) -> &Content {
        &self.content
    }

    fn compile(&mut self, errors: &mut Errors) {
        let own = |name: &str| self.content.variables.contains_key(name);
        let around = |name: &str| ["content", "subject", "locale"].contains(&name) || own(name);
        let layout = self.content.layout.as_deref().unwrap_or(OWN_LAYOUT);
        add(&mut self.engine, LAYOUT, "/layout", layout, &around, errors);
        if !layout.contains("content") {
            let detail = "must contain {{ content }}";
            errors.push(FieldError::new("/layout", detail));
        }
        for (locale, variant) in &self.content.variants {
            for (part, text) in variant.parts() {
                let at = format!("/variants{}/{part}", pointer(locale));
                add(
                    &mut self.engine,
                    &name(locale, part),
                    &at,
                    text,
                    &own,
                    errors,
                );
            }
        }
    }

    /// The examples of all variables; none where a variable that is required has none.
    pub fn examples(&self) -> Option<Map<String, serde_json::Value>> {
        let mut all = Map::new();
        for (name, variable) in &self.content.variables {
            match &variable.example {
                Some(example) => drop(all.insert(name.clone(), example.clone())),
                None if variable.is_required() => return None,
                None => {}
            }
        }
        Some(all)
    }

    fn try_examples(&self, errors: &mut Errors) {
        let Some(examples) = self.examples() else {
            return;
        };
        for locale in self.content.variants.keys() {
            let wrong = self.render(Some(locale), &examples).err();
            errors.extend(wrong.into_iter().flatten().map(|error| {
                FieldError::new(format!("/variants{}", pointer(locale)), error.detail)
            }));
        }
    }

    /// Puts a mail's values in, in the variant for the wanted locale.
    ///
    /// # Errors
    /// What is missing, unknown or of another type, by its pointer below the values.
    pub fn render(
        &self,
        wanted: Option<&str>,
        given: &Map<String, serde_json::Value>,
    ) -> Result<Rendered, Errors> {
        let values = values::complete(&self.content.variables, given)?;
        let names = self.content.variants.keys().map(String::as_str);
        let found = wanted.and_then(|wanted| locale::lookup(wanted, names));
        let locale = found.unwrap_or(&self.content.default_locale);
        let Some(variant) = self.content.variants.get(locale) else {
            return Err(vec![FieldError::new("", "has no variant for any locale")]);
        };
        let rendering = Rendering::new(self, locale, &values);
        let failed = |(part, error): (&str, String)| {
            let detail = format!(
                "the {part} of the variant {locale} can't be made of these values: {error}"
            );
            vec![FieldError::new("", detail)]
        };
        rendering.all(variant).map_err(failed)
    }

    /// The whole HTML part with its styles in place, its values still marked.
    fn make(&self, turn: Turn) -> Result<Arc<str>, String> {
        let kept = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(html) = kept().get(&turn) {
            return Ok(Arc::clone(html));
        }
        let whole = match &turn.around {
            Some(around) => around.replace(INSIDE, &markdown::to_html(&turn.inside)),
            None => turn.inside.clone(),
        };
        let html = self
            .inliner
            .inline(&whole)
            .map_err(|error| error.to_string())?;
        let html: Arc<str> = html.into();
        if html.len() > LONGEST_KEPT {
            return Ok(html);
        }
        let mut all = kept();
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(turn, Arc::clone(&html));
        Ok(html)
    }
}

impl Variant {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("subject", Some(&self.subject)),
            ("markdown", self.markdown.as_ref()),
            ("html", self.html.as_ref()),
            ("text", self.text.as_ref()),
        ];
        named
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?.as_str())))
    }
}

fn name(locale: &str, part: &str) -> String {
    format!("{locale}/{part}")
}

fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::Custom("marks".into()));
    engine.set_formatter(slots::print);
    // Whatever a caller sends is text.
    engine.remove_filter("safe");
    engine.set_fuel(Some(FUEL));
    engine
}

fn add(
    engine: &mut Environment<'static>,
    name: &str,
    at: &str,
    text: &str,
    is_declared: &dyn Fn(&str) -> bool,
    errors: &mut Errors,
) {
    if let Err(error) = engine.add_template_owned(name.to_owned(), text.to_owned()) {
        errors.push(FieldError::new(at, describe(&error)));
        return;
    }
    let Ok(template) = engine.get_template(name) else {
        return;
    };
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|name| !is_declared(name) && !engine.globals().any(|(global, _)| global == name))
        .collect();
    unknown.sort();
    for name in unknown {
        let detail = format!("uses {name}, which is not among the variables");
        errors.push(FieldError::new(at, detail));
    }
}

fn describe(error: &Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    if let Some(line) = error.line() {
        text = format!("{text} (line {line})");
    }
    text
}

/// One mail's way through its template.
struct Rendering<'a> {
    compiled: &'a Compiled,
    locale: &'a str,
    slots: Arc<Slots>,
    context: BTreeMap<String, Value>,
}

/// Which part could not be made, and why.
type Failure = (&'static str, String);

impl<'a> Rendering<'a> {
    fn new(
        compiled: &'a Compiled,
        locale: &'a str,
        values: &Map<String, serde_json::Value>,
    ) -> Self {
        let slots = Arc::new(Slots::default());
        let mut context: BTreeMap<String, Value> = values
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))))
            .collect();
        let own = Value::from_dyn_object(Arc::clone(&slots));
        context.insert(slots::NAME.to_owned(), own);
        Self {
            compiled,
            locale,
            slots,
            context,
        }
    }

    fn all(mut self, variant: &Variant) -> Result<Rendered, Failure> {
        let marked = self.run("subject")?;
        let subject = slots::into_line(&marked, &self.slots.take());
        if subject.is_empty() {
            return Err(("subject", "it would be empty".into()));
        }
        let mut text = None;
        if variant.text.is_some() {
            let marked = self.run("text")?;
            text = Some(slots::into_text(&marked, &self.slots.take()));
        }
        let mut html = None;
        if variant.markdown.is_some() {
            let inside = self.run("markdown")?;
            let around = self.around(&subject)?;
            let values = self.slots.take();
            if text.is_none() {
                text = Some(slots::into_text(&markdown::to_text(&inside), &values));
            }
            let around = Some(around);
            html = Some(self.html("markdown", Turn { inside, around }, &values)?);
        } else if variant.html.is_some() {
            let inside = self.run("html")?;
            let values = self.slots.take();
            let around = None;
            html = Some(self.html("html", Turn { inside, around }, &values)?);
        }
        Ok(Rendered {
            locale: self.locale.to_owned(),
            subject,
            text,
            html,
        })
    }

    fn run(&self, part: &'static str) -> Result<String, Failure> {
        self.run_named(&name(self.locale, part), part)
    }

    fn run_named(&self, name: &str, part: &'static str) -> Result<String, Failure> {
        let template = self.compiled.engine.get_template(name);
        let made = template.and_then(|template| template.render(Value::from(self.context.clone())));
        made.map_err(|error| (part, describe(&error)))
    }

    /// The layout, with its values marked after those of what it goes around.
    fn around(&mut self, subject: &str) -> Result<String, Failure> {
        let inside = Value::from_safe_string(INSIDE.to_owned());
        let further = [
            ("content", inside),
            ("subject", Value::from(subject)),
            ("locale", Value::from(self.locale)),
        ];
        let further = further.map(|(name, value)| (name.to_owned(), value));
        self.context.extend(further);
        self.run_named(LAYOUT, "layout")
    }

    fn html(&self, part: &'static str, turn: Turn, values: &[String]) -> Result<String, Failure> {
        let html = self.compiled.make(turn).map_err(|error| (part, error))?;
        slots::into_html(&html, values).map_err(|error| (part, error.to_owned()))
    }
}
