//! Who asks, and what that token allows.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};

use super::problem::Problem;
use crate::name;
use crate::token::{Hash, Role, Roles, Token};

/// The tokens there are.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<Hash, Arc<Token>>);

impl Tokens {
    /// Those of the configuration.
    pub(super) fn new(tokens: &[Token]) -> Self {
        Self(tokens.iter().map(|token| (token.sha256, Arc::new(token.clone()))).collect())
    }

    /// What the sender of a request may do.
    ///
    /// # Errors
    /// 401 without a token that is known, where there are tokens.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        if self.0.is_empty() {
            return Ok(Access(None));
        }
        let header = headers.get(AUTHORIZATION).ok_or_else(|| {
            Problem::no_token("a token is needed: send  Authorization: Bearer …  (meterd token new makes one)")
        })?;
        let secret = header.to_str().ok().and_then(|text| text.split_once(' '));
        let secret = secret.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = secret.and_then(|(_, secret)| self.0.get(&Hash::of(secret.trim())));
        token.map(|token| Access(Some(token.clone()))).ok_or_else(|| Problem::no_token("this token is not known"))
    }
}

/// What one sender may do: all, where no tokens are configured.
#[derive(Clone, Debug)]
pub(super) struct Access(Option<Arc<Token>>);

impl Access {
    /// Whether it has a role.
    ///
    /// # Errors
    /// 403 if not.
    pub(super) fn needs(&self, role: Role) -> Result<(), Problem> {
        let roles = self.0.as_ref().map_or(Roles::ALL, |token| token.roles);
        if roles.has(role) {
            return Ok(());
        }
        let role = format!("{role:?}").to_lowercase();
        Err(Problem::new(StatusCode::FORBIDDEN, format!("this token lacks the role \"{role}\"")))
    }

    /// Whether it reaches a key.
    pub(super) fn reaches(&self, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|token| token.reaches(key))
    }

    /// Whether it has a role and reaches a key.
    ///
    /// # Errors
    /// 403 if not.
    pub(super) fn needs_key(&self, role: Role, key: &[u8]) -> Result<(), Problem> {
        self.needs(role)?;
        if self.reaches(key) {
            return Ok(());
        }
        let message = format!("this token does not reach \"{}\": its prefixes are others", name::shown(key));
        Err(Problem::new(StatusCode::FORBIDDEN, message))
    }
}
