// What wakes somebody up. Log alerts read infra/bicep/kql; the two metric alerts and the budget need no logs.

param prefix string
param location string
param tags object
param emails array
param workspaceId string
param cosmosId string
param topicId string

@description('Warns at 80 % and 100 % of it, in the currency of the subscription, each month. 0: no budget.')
param monthlyBudget int

@description('First day of the month in which the budget begins.')
param budgetStart string

var logAlerts = [
  {
    name: 'poison'
    description: 'A message was given up after five attempts. `facerelay poison list` shows it with its reason.'
    severity: 1
    query: loadTextContent('../kql/poison.kql')
    frequency: 'PT15M'
    window: 'PT1H'
    lookBack: 'P2D'
  }
  {
    name: 'candidate-age'
    description: 'Candidates wait for more than ten minutes: raise maximumInstances, or look at failures.'
    severity: 2
    query: loadTextContent('../kql/candidate-age.kql')
    frequency: 'PT5M'
    window: 'PT15M'
    lookBack: 'PT15M'
  }
  {
    name: 'candidates-stuck'
    description: 'Candidates arrive and none is worked on: is the Event Grid subscription there?'
    severity: 1
    query: loadTextContent('../kql/candidates-stuck.kql')
    frequency: 'PT15M'
    window: 'PT1H'
    lookBack: 'PT1H'
  }
  {
    name: 'failures'
    description: 'More than one execution in a hundred fails.'
    severity: 2
    query: loadTextContent('../kql/failures.kql')
    frequency: 'PT15M'
    window: 'PT30M'
    lookBack: 'PT30M'
  }
  {
    name: 'model-behind'
    description: 'The gallery changed and no model was published for half an hour: new people are not recognised.'
    severity: 2
    query: loadTextContent('../kql/model-behind.kql')
    frequency: 'PT15M'
    window: 'PT1H'
    lookBack: 'P2D'
  }
]

resource operators 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: '${prefix}-operators'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'facerelay'
    emailReceivers: [for (email, index) in emails: {
      name: 'operator-${index}'
      emailAddress: email
      useCommonAlertSchema: true
    }]
  }
}

resource fromLogs 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for alert in logAlerts: {
  name: '${prefix}-${alert.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${prefix}: ${alert.name}'
    description: alert.description
    severity: alert.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: alert.frequency
    windowSize: alert.window
    overrideQueryTimeRange: alert.lookBack
    // A new workspace has no storage logs yet, and a query of a table without rows would be refused.
    skipQueryValidation: true
    autoMitigate: true
    criteria: {
      allOf: [
        {
          query: alert.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        operators.id
      ]
    }
  }
}]

resource throttled 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${prefix}-cosmos-429'
  location: 'global'
  tags: tags
  properties: {
    description: 'Cosmos DB refuses requests. A few are normal, the SDK repeats them; more than 100 in five minutes slow recognition down.'
    severity: 2
    enabled: true
    scopes: [
      cosmosId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'throttled'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.DocumentDB/databaseAccounts'
          metricName: 'TotalRequests'
          dimensions: [
            {
              name: 'StatusCode'
              operator: 'Include'
              values: [
                '429'
              ]
            }
          ]
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 100
        }
      ]
    }
    actions: [
      {
        actionGroupId: operators.id
      }
    ]
  }
}

resource undelivered 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${prefix}-undelivered'
  location: 'global'
  tags: tags
  properties: {
    description: 'Event Grid gave up on an event; it is in eventgrid-deadletters. docs/deploy.md says how to deliver it.'
    severity: 1
    enabled: true
    scopes: [
      topicId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    autoMitigate: false
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'dead-lettered'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: 'DeadLetteredCount'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    actions: [
      {
        actionGroupId: operators.id
      }
    ]
  }
}

resource budget 'Microsoft.Consumption/budgets@2023-05-01' = if (monthlyBudget > 0) {
  name: '${prefix}-monthly'
  properties: {
    category: 'Cost'
    timeGrain: 'Monthly'
    amount: monthlyBudget
    timePeriod: {
      startDate: budgetStart
    }
    notifications: {
      spent: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 80
        thresholdType: 'Actual'
        contactEmails: emails
        contactGroups: [
          operators.id
        ]
      }
      expected: {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: emails
        contactGroups: [
          operators.id
        ]
      }
    }
  }
}
