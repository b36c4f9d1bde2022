//! Hot statements with a fixed text. diesel prepares `sql_query` anew on every call; a type of its own
//! with a static query id is prepared once per connection, which is worth a third of the accept rate.

/// Declares a statement: a struct of its binds, in the order of the `?` in its text. It is run by
/// reference, `(&statement).load(connection)`, so that it can be run again.
///
/// ```ignore
/// statement! {
///     /// What it does.
///     pub struct Confirm -> (diesel::sql_types::Uuid,) {
///         ids: Array<diesel::sql_types::Uuid> = Vec<Uuid>,
///     }
///     "DELETE FROM outbox WHERE id = ANY(?) RETURNING id"
/// }
/// ```
#[macro_export]
macro_rules! statement {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident -> $row:ty { $($field:ident: $sql:ty = $rust:ty),* $(,)? }
        $text:expr
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name { $($vis $field: $rust),* }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                let mut pieces = $text.split('?');
                out.push_sql(pieces.next().unwrap_or_default());
                $(
                    out.push_bind_param::<$sql, $rust>(&self.$field)?;
                    out.push_sql(pieces.next().unwrap_or_default());
                )*
                debug_assert!(pieces.next().is_none(), "more ? than binds");
                Ok(())
            }
        }

        impl diesel::query_builder::QueryId for $name {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl diesel::query_builder::Query for $name {
            type SqlType = $row;
        }

        impl diesel::RunQueryDsl<diesel::PgConnection> for &$name {}
    };
}
