//! How templates are shown.

use crate::{
    endpoints::tasks::resource::Timestamp,
    queries::templates::{Template, Version},
};
use serde::Serialize;
use shared::template::{
    Content,
    builtin::{self, BuiltIn},
};

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TemplateList {
    items: Vec<TemplateSummary>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TemplateSummary {
    name: String,
    description: Option<String>,
    /// Warren brings it, in the languages `en` and `zh`.
    built_in: bool,
    /// The version that mails get; null: none is published, or Warren brings it.
    published: Option<i32>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    updated_at: Option<Timestamp>,
}

impl TemplateList {
    pub(super) fn of(rows: Vec<Template>) -> Self {
        let own = builtin::all().iter().map(|own| TemplateSummary {
            name: own.name.to_owned(),
            description: Some(own.description.to_owned()),
            built_in: true,
            published: None,
            updated_at: None,
        });
        let stored = rows.into_iter().map(|row| TemplateSummary {
            name: row.name,
            description: row.description,
            built_in: false,
            published: row.published,
            updated_at: Some(Timestamp(row.updated_at)),
        });
        let mut items: Vec<_> = own.chain(stored).collect();
        items.sort_by(|one, other| one.name.cmp(&other.name));
        Self { items }
    }
}

/// A version of a template.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Template)]
pub struct TemplateResource {
    name: String,
    description: Option<String>,
    built_in: bool,
    /// The version that mails get.
    published: Option<i32>,
    /// The version that is shown; null: Warren brings it.
    pub(super) version: Option<i32>,
    state: State,
    content: Content,
    /// By the key of that name.
    created_by: Option<String>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    created_at: Option<Timestamp>,
    /// For the first time.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    published_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TemplateState)]
pub enum State {
    /// It may still change.
    Draft,
    /// Mails get it.
    Published,
    /// Mails have got it; another one is published now.
    Former,
}

impl State {
    pub(super) fn of(template: &Template, version: &Version) -> Self {
        if template.published == Some(version.version) {
            Self::Published
        } else if version.published_at.is_some() {
            Self::Former
        } else {
            Self::Draft
        }
    }
}

impl TemplateResource {
    pub(super) fn built_in(own: &BuiltIn, content: Content) -> Self {
        Self {
            name: own.name.to_owned(),
            description: Some(own.description.to_owned()),
            built_in: true,
            published: None,
            version: None,
            state: State::Published,
            content,
            created_by: None,
            created_at: None,
            published_at: None,
        }
    }

    pub(super) fn stored(
        template: Template,
        version: Version,
        content: Content,
        state: State,
    ) -> Self {
        Self {
            name: template.name,
            description: template.description,
            built_in: false,
            published: template.published,
            version: Some(version.version),
            state,
            content,
            created_by: Some(version.created_by),
            created_at: Some(Timestamp(version.created_at)),
            published_at: version.published_at.map(Timestamp),
        }
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TemplateVersions)]
pub struct VersionList {
    /// Newest first.
    items: Vec<VersionSummary>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TemplateVersion)]
pub struct VersionSummary {
    version: i32,
    state: State,
    created_by: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Timestamp,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    published_at: Option<Timestamp>,
}

impl VersionList {
    pub(super) fn of(template: &Template, versions: Vec<Version>) -> Self {
        let summary = |version: Version| VersionSummary {
            version: version.version,
            state: State::of(template, &version),
            created_by: version.created_by,
            created_at: Timestamp(version.created_at),
            published_at: version.published_at.map(Timestamp),
        };
        Self {
            items: versions.into_iter().map(summary).collect(),
        }
    }
}
